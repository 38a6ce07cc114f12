-- Which servers' memories of a set's copies hold: a serving that was ended and begun again has another epoch.
ALTER TABLE servings ADD COLUMN epoch BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';
