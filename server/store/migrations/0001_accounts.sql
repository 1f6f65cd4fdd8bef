-- The store's own identity, accounts and devices. Not hot: foreign keys are welcome here.

-- One row. Another epoch means that every position a client knows is void (restore, promotion without proof of zero lag).
CREATE TABLE store (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch uuid NOT NULL,
    since timestamptz NOT NULL
);
INSERT INTO store (epoch, since) VALUES (gen_random_uuid(), clock_timestamp());

-- Versions come from one sequence, not from a counter per account: after a restore, which moves all sequences forward, no version a
-- worker may still have cached can come back with other devices behind it.
CREATE SEQUENCE devices_version AS bigint;

CREATE TABLE account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uuid uuid NOT NULL UNIQUE,
    devices_version bigint NOT NULL DEFAULT nextval('devices_version'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at timestamptz
);

-- The id names the mailbox. A device registered anew is another row with another mailbox: what was encrypted for the old registration
-- never reaches the new one.
CREATE TABLE device (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account bigint NOT NULL REFERENCES account (id),
    number integer NOT NULL CHECK (number > 0),
    registration_id integer NOT NULL CHECK (registration_id >= 0),
    secret_salt bytea NOT NULL,
    secret_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz
);
CREATE INDEX device_number ON device (account, number, id);
CREATE UNIQUE INDEX device_active ON device (account, number) WHERE revoked_at IS NULL;
