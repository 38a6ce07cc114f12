-- Which server makes a report, by the id that its other claims name: it gives back at its stop what it has not finished.
ALTER TABLE reports ADD COLUMN holder uuid;
