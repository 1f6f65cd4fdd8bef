-- Devices that are nowhere and have something stored: up to which row, and since when, a push is due. Set once until it is carried out, so
-- that a thousand messages for a sleeping device are one write here.
ALTER TABLE device ADD COLUMN push_due_id bigint, ADD COLUMN push_due_at timestamptz;

-- The sweep's marks: values of the id sequence, thirty seconds apart, the newest first. Whoever moves them sweeps (server/store/wakeups.py).
CREATE TABLE mailbox_sweep (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    swept_at timestamptz NOT NULL,
    mark_1 bigint NOT NULL, mark_2 bigint NOT NULL, mark_3 bigint NOT NULL, mark_4 bigint NOT NULL
);
INSERT INTO mailbox_sweep SELECT true, clock_timestamp(), last_value - 1, last_value - 1, last_value - 1, last_value - 1 FROM mailbox_id;

-- The sweep asks for ids between two marks, whosever they are. Rows lie in the order of their ids as they came, so a summary per 32 pages
-- finds them at next to no cost for inserts. (A new partition copies its indexes from the parent: LIKE … INCLUDING ALL, then ATTACH.)
CREATE INDEX mailbox_sweep_id ON mailbox USING brin (id) WITH (pages_per_range = 32, autosummarize = on);
