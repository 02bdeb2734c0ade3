-- An event whose contents were dropped has neither data nor metadata. All else of it stays.
ALTER TABLE sillage.events ALTER COLUMN data DROP NOT NULL, ALTER COLUMN metadata DROP NOT NULL;

-- Whether the log had another epoch before: then reactors that were never heard of may have been, in that one.
ALTER TABLE sillage.log ADD COLUMN renewed boolean NOT NULL DEFAULT false;

-- The log that is being moved here, or was. Until it is here it has no row in sillage.log, and no node opens it.
CREATE TABLE sillage.move (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- What the log that it comes from was born with, which no other log has.
    origin uuid NOT NULL,
    -- The identity that it brings with it.
    log_id uuid NOT NULL,
    -- Whether its contents are coming, are all here, or it is the log of this database.
    stage text NOT NULL CHECK (stage IN ('copying', 'whole', 'done')),
    -- How far it is here, in the words of whoever reads the other log.
    mark text NOT NULL,
    -- What its ledger has forgotten, as in sillage.log.
    forgotten_until bigint NOT NULL DEFAULT 0
);
