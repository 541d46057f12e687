-- Subjects are many, and most of them are in one entry: a row each lay somewhere else in the index than the one before, and cost a page when it
-- was written. Now a full bundle has one row for all of its subjects, and a full run of 16 bundles one for each first byte of their keys:
--   label ''          n: bundle   positions: 8 bytes of the subject's SHA-256, one byte where in the bundle
--   label one byte    n: run      positions: bytes 2 to 8 of the subject's SHA-256, two bytes where in the run
-- nine bytes each, ascending. The rows of a run's bundles go when the run's own are written. Types and streams stay as they are. The column has another name, so that a
-- process of the release before is refused whatever it asks of the table, and does not take it for damaged.

-- With a key, so that only the places that a row has are looked at.
CREATE TABLE log_label_place (i INTEGER PRIMARY KEY);
WITH RECURSIVE place (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM place WHERE i < 256)
INSERT INTO log_label_place SELECT i FROM place;

INSERT INTO log_labels (log_id, label, n, places)
SELECT log_id, x'', n, unhex(group_concat(item, '' ORDER BY item))
FROM (
    SELECT log_labels.log_id, n, hex(substr(label, 1, 8)) || hex(substr(places, i, 1)) AS item
    FROM log_labels
    JOIN log_heads ON log_heads.log_id = log_labels.log_id AND n >= size / 4096 * 16
    CROSS JOIN log_label_place ON i <= length(places)
    WHERE length(label) = 16 AND substr(label, 1, 7) <> CAST('stream/' AS BLOB)
)
GROUP BY log_id, n;

INSERT INTO log_labels (log_id, label, n, places)
SELECT log_id, bucket, run, unhex(group_concat(item, '' ORDER BY item))
FROM (
    SELECT log_labels.log_id, substr(label, 1, 1) AS bucket, n / 16 AS run,
        hex(substr(label, 2, 7)) || printf('%02X', n % 16) || hex(substr(places, i, 1)) AS item
    FROM log_labels
    JOIN log_heads ON log_heads.log_id = log_labels.log_id AND n < size / 4096 * 16
    CROSS JOIN log_label_place ON i <= length(places)
    WHERE length(label) = 16 AND substr(label, 1, 7) <> CAST('stream/' AS BLOB)
)
GROUP BY log_id, bucket, run;

DELETE FROM log_labels WHERE length(label) = 16 AND substr(label, 1, 7) <> CAST('stream/' AS BLOB);

DROP TABLE log_label_place;
ALTER TABLE log_labels RENAME COLUMN places TO positions;
