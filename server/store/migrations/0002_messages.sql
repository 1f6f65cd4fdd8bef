-- The hot tables: no foreign keys, no triggers, no DEFAULT partition (one would make every new partition scan it, and forbid
-- DETACH … CONCURRENTLY). docs/storage.md says what each rule is for.

-- Mailboxes. The id is the order of delivery: taken inside the insert, in input order. CACHE 1: a session's private stock of numbers
-- would let a later message carry a smaller id than one already answered SENT.
-- Partition N holds ids from N << 40 up to (N + 1) << 40.
CREATE SEQUENCE mailbox_id AS bigint MINVALUE 1 START WITH 1099511627776 CACHE 1;

CREATE TABLE mailbox (
    device bigint NOT NULL,
    id bigint NOT NULL,
    server_time bigint NOT NULL,          -- ms since 1970, database clock
    sender bigint,                        -- with key_window and client_id: the send this row belongs to; null when sealed
    guid uuid NOT NULL,
    client_id uuid,
    key_window integer,
    urgent boolean NOT NULL,
    envelope bytea NOT NULL,
    -- 256 KiB of content (MSG-5) with room for the other fields. Admission refuses before; this is the last line.
    CONSTRAINT mailbox_envelope_size CHECK (octet_length(envelope) BETWEEN 1 AND 270336),
    PRIMARY KEY (device, id)
) PARTITION BY RANGE (id);
-- Ciphertext does not compress; trying costs CPU.
ALTER TABLE mailbox ALTER COLUMN envelope SET STORAGE EXTERNAL;

CREATE TABLE mailbox_partition (
    number bigint PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    opened_at timestamptz,                -- when the sequence moved in
    closed_at timestamptz                 -- when it moved on
);

-- ATTACH takes a lock on the parent that lets reads and writes go on; CREATE … PARTITION OF would stop them.
CREATE FUNCTION mailbox_create_partition(n bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Vacuum by number of dead rows, not by share: most rows of a partition die within seconds, and pages of the dead slow reads.
    EXECUTE format(
        'CREATE TABLE mailbox_%s (LIKE mailbox INCLUDING ALL) WITH ('
        'autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000, autovacuum_vacuum_insert_scale_factor = 0, '
        'autovacuum_vacuum_insert_threshold = 1000000, autovacuum_vacuum_cost_delay = 0)', n);
    EXECUTE format('ALTER TABLE mailbox ATTACH PARTITION mailbox_%s FOR VALUES FROM (%s) TO (%s)', n, n << 40, (n + 1) << 40);
    INSERT INTO mailbox_partition (number) VALUES (n);
END $$;

SELECT mailbox_create_partition(1);
UPDATE mailbox_partition SET opened_at = clock_timestamp() WHERE number = 1;

-- Idempotency keys, one row per send, by windows.
CREATE TABLE send_key (
    sender bigint NOT NULL,               -- device id; 0 when sealed
    server_time bigint NOT NULL,          -- with guid and needs_sync: the first answer
    delivered_at bigint,                  -- ms since 1970; set by the first device's acknowledgement
    client_id uuid NOT NULL,              -- sealed: keyed hash of (sender, client id); its key dies with the window
    guid uuid NOT NULL,
    key_window integer NOT NULL,
    needs_sync boolean NOT NULL,
    digest bytea NOT NULL,                -- 16 bytes: what a repeat must equal
    PRIMARY KEY (key_window, sender, client_id)
) PARTITION BY LIST (key_window);

CREATE TABLE send_window (
    number integer PRIMARY KEY,
    seal bytea NOT NULL CHECK (octet_length(seal) = 32),   -- the key under which sealed sends' keys are hashed
    opened_at timestamptz                                  -- when it became current
);

CREATE FUNCTION send_window_create(n integer, seal bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Rows are only inserted and the table is dropped within days: vacuuming it for its inserts would be work for nothing.
    EXECUTE format('CREATE TABLE send_key_%s (LIKE send_key INCLUDING ALL) WITH (autovacuum_vacuum_insert_threshold = -1)', n);
    EXECUTE format('ALTER TABLE send_key ATTACH PARTITION send_key_%s FOR VALUES IN (%s)', n, n);
    INSERT INTO send_window (number, seal) VALUES (n, send_window_create.seal);
END $$;

-- One row: which window is written, and whether the change to the next one is under way. Every commit names the version it was built
-- for; see server/store/windows.py.
CREATE TABLE send_state (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    version bigint NOT NULL,
    current integer NOT NULL,
    changing boolean NOT NULL
);

-- Two random UUIDs carry 244 random bits; the server has no other strong source without extensions.
SELECT send_window_create(1, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
SELECT send_window_create(2, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
UPDATE send_window SET opened_at = clock_timestamp() WHERE number IN (1, 2);
INSERT INTO send_state (version, current, changing) VALUES (1, 2, false);
