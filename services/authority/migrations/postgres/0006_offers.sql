-- Who of a provider asked, and when: for carrying over what a crash kept from the customer. Written by RequestEngagement. Of rows
-- from before, nobody knows; those are not carried over.
ALTER TABLE engagement_offers ADD COLUMN asked_by TEXT NOT NULL DEFAULT ''; -- name of the principal
ALTER TABLE engagement_offers ADD COLUMN asked_at_ms BIGINT NOT NULL DEFAULT 0;
