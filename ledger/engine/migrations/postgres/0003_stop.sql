-- Why nothing is signed for a log any more, until somebody has looked: the published copy is another log. NULL: it goes on.
ALTER TABLE log_heads ADD COLUMN stopped_because TEXT;

-- What grew is asked of all logs at once: `*` reads their heads, and nothing else of them.
CREATE POLICY log_everything ON log_heads FOR SELECT USING (current_setting('counterfoil.tenant', true) = '*');
