-- What a claim says that has no result yet is found by its references, too.
CREATE INDEX renewals_open_reference1 ON renewals (merchant_reference1) WHERE open_message_id IS NOT NULL;
CREATE INDEX renewals_open_reference2 ON renewals (merchant_reference2) WHERE merchant_reference2 IS NOT NULL AND open_message_id IS NOT NULL;
-- What was recorded by a decision was made before it.
CREATE INDEX records_corrected ON records (corrects) WHERE corrects IS NOT NULL;
-- What was paid and is not, by a later decision, is paid at no time.
UPDATE renewals SET paid_at = NULL, captured_amount = NULL WHERE paid_at IS NOT NULL AND phase NOT IN ('paid', 'capturing', 'captured', 'capture_failed') AND id IN (
  SELECT renewal_id FROM records WHERE kind IN ('paid', 'dunning') GROUP BY renewal_id HAVING max(iif(kind = 'dunning', sequence, 0)) > max(iif(kind = 'paid', sequence, 0)));
-- Currencies are upper case.
UPDATE records SET purchase_currency = upper(purchase_currency) WHERE purchase_currency <> upper(purchase_currency);
UPDATE renewals SET purchase_currency = upper(purchase_currency) WHERE purchase_currency <> upper(purchase_currency);
