"""What makes a start impossible, as the operator's one line."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from veredus.core.errors import StoreUnavailable
from veredus.server.failure import StartFailed
from veredus.server.store.checks import UnsafeStore


@contextmanager
def told() -> Iterator[None]:
    """Turn the failures that an operator can mend into `StartFailed`; what is our fault stays what it is."""
    try:
        yield
    except UnsafeStore as error:
        raise StartFailed(f"database_url: {error}") from None
    except StoreUnavailable as error:
        hint = "; run `veredus migrate` first" if "UndefinedTable" in error.detail else ""
        raise StartFailed(f"database_url: {error.detail}{hint}") from None
    except ssl.SSLError as error:
        raise StartFailed(f"tls: {error.reason or 'the files do not serve'}") from None
    except OSError as error:
        raise StartFailed(f"listen: {error.strerror or error}") from None
