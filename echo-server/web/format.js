/*
 * Numbers, times and sizes as people read them, in the language of the page.
 */

import { locale, t } from "./i18n.js";

/** Seconds as `0:07`, `12:30` or `1:02:03`. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(Number.isFinite(seconds) ? seconds : 0));
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** Seconds as a person would say them: `1 hr 2 min`, `45 sec`. */
export function spokenDuration(seconds) {
  const unit = (value, name) =>
    new Intl.NumberFormat(locale(), { style: "unit", unit: name, unitDisplay: "short" }).format(value);
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return unit(whole, "second");
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return unit(minutes, "minute");
  const rest = minutes % 60;
  return rest ? `${unit(Math.floor(minutes / 60), "hour")} ${unit(rest, "minute")}` : unit(minutes / 60, "hour");
}

/** Bytes as `4.2 MB`. */
export function size(bytes) {
  const names = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let value = Math.max(0, bytes || 0);
  let at = 0;
  while (value >= 1000 && at < names.length - 1) {
    value /= 1000;
    at += 1;
  }
  const digits = at > 1 && value < 10 ? 1 : 0;
  return new Intl.NumberFormat(locale(), {
    style: "unit",
    unit: names[at],
    unitDisplay: "short",
    maximumFractionDigits: digits,
  }).format(value);
}

/** A share of 1 as `42%`, never `100%` before it is done. */
export function percent(share) {
  const value = share >= 1 ? 1 : Math.min(0.99, Math.max(0, share || 0));
  return new Intl.NumberFormat(locale(), { style: "percent" }).format(value);
}

/** When something happened: the time of day today, else the date. */
export function when(iso) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return "";
  const now = new Date();
  const days = Math.round((startOfDay(now) - startOfDay(date)) / 86_400_000);
  const time = date.toLocaleTimeString(locale(), { hour: "numeric", minute: "2-digit" });
  if (days === 0) return t("today", { time });
  if (days === 1) return t("yesterday", { time });
  const options = { day: "numeric", month: "short" };
  if (date.getFullYear() !== now.getFullYear()) options.year = "numeric";
  return date.toLocaleDateString(locale(), options);
}

function startOfDay(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}
