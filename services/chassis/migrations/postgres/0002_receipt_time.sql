-- The log's time at the checkpoint of the receipt, milliseconds; 0 in receipts from before this column.
ALTER TABLE outbox_receipts ADD COLUMN checkpoint_ms BIGINT NOT NULL DEFAULT 0;
