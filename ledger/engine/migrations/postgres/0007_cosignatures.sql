-- Cosignatures of witnesses over the log's checkpoints. Each proves itself with the witness's key, and all of them can be asked for
-- again, but for the times that they state. Whoever can write here can withhold one, and make none.
CREATE TABLE log_cosignatures (
    log_id BIGINT NOT NULL,
    -- Entries of the checkpoint.
    size BIGINT NOT NULL,
    -- Public key of the witness, C2SP text form.
    witness TEXT NOT NULL,
    -- The time that it states, seconds since 1970.
    cosigned_at_s BIGINT NOT NULL,
    -- The signature line of the note, without its line feed.
    line TEXT NOT NULL,
    PRIMARY KEY (log_id, size, witness)
);
CREATE INDEX log_cosignatures_by_witness ON log_cosignatures (log_id, witness, size);

ALTER TABLE log_cosignatures ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_cosignatures FORCE ROW LEVEL SECURITY;
CREATE POLICY log_named ON log_cosignatures
    USING (log_id = ANY ((SELECT string_to_array(current_setting('counterfoil.logs'), ',')::bigint[])::bigint[]))
    WITH CHECK (log_id = ANY ((SELECT string_to_array(current_setting('counterfoil.logs'), ',')::bigint[])::bigint[]));
