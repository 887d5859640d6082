-- Days of a calendar say whether their source was checked, as every dated row does.
ALTER TABLE calendar ADD COLUMN verified boolean NOT NULL DEFAULT false;
SELECT keep_histories();
