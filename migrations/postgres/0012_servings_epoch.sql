-- Which servers' memories of a set's copies hold: a serving that was ended and begun again has another epoch.
ALTER TABLE servings ADD COLUMN epoch UUID NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
