-- The identity at an issuer of OpenID Connect that a recipient is bound to instead of having tokens: all of it or none.
ALTER TABLE recipients
    ADD COLUMN oidc_id uuid,
    ADD COLUMN oidc_issuer text COLLATE "C",
    ADD COLUMN oidc_audience text COLLATE "C",
    ADD COLUMN oidc_claim text COLLATE "C",
    ADD COLUMN oidc_value text COLLATE "C";
CREATE UNIQUE INDEX recipients_identity ON recipients (oidc_issuer, oidc_audience, oidc_claim, oidc_value);
CREATE UNIQUE INDEX recipients_identity_id ON recipients (oidc_id);
