-- What a claim says that has no result yet is found by its references, too.
CREATE INDEX renewals_open_reference1 ON renewals (merchant_reference1) WHERE open_message_id IS NOT NULL;
CREATE INDEX renewals_open_reference2 ON renewals (merchant_reference2) WHERE merchant_reference2 IS NOT NULL AND open_message_id IS NOT NULL;
-- What was recorded by a decision was made before it.
CREATE INDEX records_corrected ON records (corrects) WHERE corrects IS NOT NULL;
