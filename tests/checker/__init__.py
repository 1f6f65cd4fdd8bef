"""The history checker: what clients saw, recorded on their side, judged against the promises P1 to P5."""
