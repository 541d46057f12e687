-- Why nothing is signed for a log any more, until somebody has looked: the published copy is another log. NULL: it goes on.
ALTER TABLE log_heads ADD COLUMN stopped_because TEXT;
