// Periods of the API (2026-11-23, 2026-11, 2026-Q3, 2026): the one before, the same of last year, and what may be compared.

const pad = (n) => String(n).padStart(2, "0");
const monthText = (index) => `${Math.floor(index / 12)}-${pad((index % 12) + 1)}`;
const dayText = (ms) => new Date(ms).toISOString().slice(0, 10);

export const KINDS = ["day", "month", "quarter", "year"];
const PATTERNS = { day: /^\d{4}-\d{2}-\d{2}$/, month: /^\d{4}-\d{2}$/, quarter: /^\d{4}-Q[1-4]$/, year: /^\d{4}$/ };

/** day, month, quarter or year; null for what is no period. */
export const kindOf = (period) => KINDS.find((kind) => PATTERNS[kind].test(period ?? "")) ?? null;

/** The period of a kind that holds a day. */
export function periodOf(kind, day) {
  const [year, month] = day.split("-").map(Number);
  return { day, month: day.slice(0, 7), quarter: `${year}-Q${Math.ceil(month / 3)}`, year: String(year) }[kind];
}

/** The period `n` steps later (negative: earlier). */
export function shifted(period, n) {
  const kind = kindOf(period);
  if (kind === "day") return dayText(Date.parse(`${period}T00:00:00Z`) + n * 86400e3);
  if (kind === "year") return String(Number(period) + n);
  const [year, part] = period.split(kind === "quarter" ? "-Q" : "-").map(Number);
  if (kind === "month") return monthText(year * 12 + part - 1 + n);
  const index = year * 4 + part - 1 + n;
  return `${Math.floor(index / 4)}-Q${(index % 4) + 1}`;
}

/** The same period of the year before; of 29 February there is none. */
export function yearBefore(period) {
  if (period.endsWith("-02-29")) return null;
  return `${Number(period.slice(0, 4)) - 1}${period.slice(4)}`;
}

const DAY = 86400e3;
const LEAST_DAYS = 3; // of a period that runs: a daily mean over less says more of the hour than of the change
const ENOUGH = 0.9;

/** How much of a period (an answer of /aggregates) is over, in days, and whether all of it is. */
export function elapsed(answer, now) {
  const [start, end] = [Date.parse(answer.start), Date.parse(answer.end)];
  return { days: Math.max(0, Math.min(now, end) - start) / DAY, over: now >= end, length: (end - start) / DAY };
}

/**
 * The change from one cell to another as a ratio, or null when it cannot be said: a whole period by its total, one that
 * runs by its daily mean. What lacks data on either side is not compared: a gap would look like a saving.
 */
export function change(cell, former, here, there) {
  const known = (c) => c && c.value !== null && c.coverage !== null && c.coverage >= ENOUGH;
  if (!known(cell) || !known(former) || !former.value || !there.over) return null;
  if (here.over) return cell.value / former.value - 1;
  return here.days < LEAST_DAYS ? null : cell.value / here.days / (former.value / there.length) - 1;
}
