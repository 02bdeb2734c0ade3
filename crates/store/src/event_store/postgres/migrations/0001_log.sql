-- The log, and what is kept in the same transactions. Everything but cursors and leases is only ever added: a
-- row that changes often leaves its old versions behind for as long as any transaction of the database is open, and
-- whoever looks it up has to step over them.

-- The identity of the log. Its lock is the right to write.
CREATE TABLE sillage.log (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    log_id uuid NOT NULL,
    -- Commands minted before this moment, in microseconds since 1970, may have been forgotten.
    forgotten_until bigint NOT NULL DEFAULT 0
);

-- Positions have no gaps and become visible in their order. The last one is the position of the log.
CREATE TABLE sillage.events (
    position bigint PRIMARY KEY,
    version bigint NOT NULL,
    -- Microseconds since 1970; never earlier than that of the event before.
    recorded_at bigint NOT NULL,
    id uuid NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    type text NOT NULL,
    -- The bytes that are hashed.
    data bytea NOT NULL,
    metadata bytea NOT NULL,
    checksum bytea NOT NULL
);
-- Reads a stream, and finds its end.
CREATE UNIQUE INDEX events_of_stream ON sillage.events (tenant, stream, version);

-- What became of each command.
CREATE TABLE sillage.ledger (
    position bigint NOT NULL,
    -- When it was settled or minted, whichever is later, in microseconds since 1970: it is forgotten by this.
    at bigint NOT NULL,
    command_id uuid NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    principal text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    content bytea NOT NULL,
    outcome text NOT NULL,
    PRIMARY KEY (tenant, principal, command_id)
);
CREATE INDEX ledger_by_age ON sillage.ledger (at);

-- Every group that was committed in the last minutes, so that a writer whose connection was lost at COMMIT can ask.
-- The ids are UUIDs of version 7, minted by the clock of the database.
CREATE TABLE sillage.groups (
    id uuid PRIMARY KEY
);

-- Where reactors stand.
CREATE TABLE sillage.cursors (
    reactor text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    mode text NOT NULL
);

-- What reactors have set aside.
CREATE TABLE sillage.parked (
    reactor text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    skipped boolean NOT NULL,
    entry text NOT NULL,
    PRIMARY KEY (reactor, position)
);
CREATE INDEX parked_and_skipped ON sillage.parked (reactor, position) WHERE skipped;

-- Who may write what rests on a lease.
CREATE TABLE sillage.leases (
    name text COLLATE "C" PRIMARY KEY,
    owner text NOT NULL,
    token bigint NOT NULL,
    -- Microseconds since 1970, by the clock of the database.
    until bigint NOT NULL
);

-- JSON as a value of the database, where the database has one for it: it has none for "\u0000" and very large numbers.
CREATE FUNCTION sillage.as_jsonb(bytes bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN convert_from(bytes, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END
$$;

-- For people: what the bytes say.
CREATE VIEW sillage.readable_events AS
SELECT
    position,
    tenant,
    stream,
    version,
    id,
    type,
    timestamptz 'epoch' + recorded_at * interval '1 microsecond' AS recorded_at,
    convert_from(data, 'UTF8') AS data,
    sillage.as_jsonb(data) AS data_jsonb,
    sillage.as_jsonb(metadata) AS metadata_jsonb,
    encode(checksum, 'hex') AS checksum
FROM sillage.events;
