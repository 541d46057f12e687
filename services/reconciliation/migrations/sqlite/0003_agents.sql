-- The AI agent that started it the last time: nothing goes out for it while it has no mandate in force. Written by ExecuteRemediation.
ALTER TABLE remediations ADD COLUMN agent TEXT NOT NULL DEFAULT ''; -- principals/{principal}; empty: no agent did
