-- The identity at an issuer of OpenID Connect that a recipient is bound to instead of having tokens: all of it or none.
ALTER TABLE recipients ADD COLUMN oidc_id BLOB;
ALTER TABLE recipients ADD COLUMN oidc_issuer TEXT;
ALTER TABLE recipients ADD COLUMN oidc_audience TEXT;
ALTER TABLE recipients ADD COLUMN oidc_claim TEXT;
ALTER TABLE recipients ADD COLUMN oidc_value TEXT;
CREATE UNIQUE INDEX recipients_identity ON recipients (oidc_issuer, oidc_audience, oidc_claim, oidc_value);
CREATE UNIQUE INDEX recipients_identity_id ON recipients (oidc_id);
