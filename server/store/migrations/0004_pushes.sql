-- How far the push of a device has come. Everything here belongs to the due of `push_due_id` and starts anew with the next one, but for the
-- minute's count, which goes on.
ALTER TABLE device
    ADD COLUMN push_urgent boolean NOT NULL DEFAULT false,   -- one of the rows it tells of is urgent
    ADD COLUMN push_next_at timestamptz,                     -- nobody pushes before: a lease, a backoff, the interval until it is repeated
    ADD COLUMN push_queue_at timestamptz,                    -- then its job is made again: the old one was lost, or there was none yet
    ADD COLUMN push_held_at timestamptz,                     -- when it was first found connected although the push is due
    ADD COLUMN push_sent_at timestamptz,
    ADD COLUMN push_sent integer NOT NULL DEFAULT 0,         -- so often
    ADD COLUMN push_failed integer NOT NULL DEFAULT 0,       -- tries in a row
    ADD COLUMN push_minute timestamptz,                      -- the minute of the last try, and how many there were in it
    ADD COLUMN push_in_minute integer NOT NULL DEFAULT 0;

UPDATE device SET push_next_at = clock_timestamp(), push_queue_at = clock_timestamp() WHERE push_due_id IS NOT NULL;

-- What is due is few, and found by when its job has to be made.
CREATE INDEX device_push_queue ON device (push_queue_at) WHERE push_due_id IS NOT NULL;
