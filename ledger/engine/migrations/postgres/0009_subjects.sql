-- Subjects are many, and most of them are in one entry: a row each lay somewhere else in the index than the one before, and cost a page when it
-- was written. Now a full bundle has one row for all of its subjects, and a full run of 16 bundles one for each first byte of their keys:
--   label ''          n: bundle   positions: 8 bytes of the subject's SHA-256, one byte where in the bundle
--   label one byte    n: run      positions: bytes 2 to 8 of the subject's SHA-256, two bytes where in the run
-- nine bytes each, ascending. The rows of a run's bundles go when the run's own are written. Types and streams stay as they are. The column has another name, so that a
-- process of the release before is refused whatever it asks of the table, and does not take it for damaged.

-- This transaction reads all logs, and from here on no other one does.
SELECT set_config('counterfoil.tenant', '*', true);
SELECT set_config('counterfoil.logs', (SELECT coalesce(string_agg(log_id::text, ','), '') FROM logs), true);

-- Nobody appends meanwhile: each of the statements below sees what was committed before it began.
LOCK TABLE log_labels IN ACCESS EXCLUSIVE MODE;

INSERT INTO log_labels (log_id, label, n, places)
SELECT log_id, ''::bytea, n, string_agg(item, ''::bytea ORDER BY item)
FROM (
    SELECT log_id, n, substring(label FROM 1 FOR 8) || substring(places FROM i FOR 1) AS item
    FROM log_labels
    JOIN log_heads USING (log_id)
    CROSS JOIN generate_series(1, length(places)) AS i
    WHERE n >= size / 4096 * 16 AND length(label) = 16 AND substring(label FROM 1 FOR 7) <> 'stream/'::bytea
) AS items
GROUP BY log_id, n;

INSERT INTO log_labels (log_id, label, n, places)
SELECT log_id, bucket, run, string_agg(item, ''::bytea ORDER BY item)
FROM (
    SELECT log_id, substring(label FROM 1 FOR 1) AS bucket, n / 16 AS run,
        substring(label FROM 2 FOR 7) || set_byte('\x00'::bytea, 0, (n % 16)::int) || substring(places FROM i FOR 1) AS item
    FROM log_labels
    JOIN log_heads USING (log_id)
    CROSS JOIN generate_series(1, length(places)) AS i
    WHERE n < size / 4096 * 16 AND length(label) = 16 AND substring(label FROM 1 FOR 7) <> 'stream/'::bytea
) AS items
GROUP BY log_id, bucket, run;

DELETE FROM log_labels WHERE length(label) = 16 AND substring(label FROM 1 FOR 7) <> 'stream/'::bytea;

ALTER TABLE log_labels RENAME COLUMN places TO positions;
