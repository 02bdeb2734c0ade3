// The language: that of the browser, unless somebody has chosen. Every text of the pages comes from here.

import { useMemo } from "react";
import { type Dictionary, en } from "./i18n/en";
import { fr } from "./i18n/fr";
import { keep, recall } from "./keep";
import { useValue, Value } from "./value";

export const DICTIONARIES = { en, fr } satisfies Record<string, Dictionary>;
export type Language = keyof typeof DICTIONARIES;
export const LANGUAGES = Object.keys(DICTIONARIES) as Language[];

export const language = new Value<Language>(
  known(recall("browser", "language")) ?? navigator.languages.map(known).find(Boolean) ?? "en",
);

/** Tells the document its language, for whoever reads it aloud. */
export function applyLanguage(): void {
  document.documentElement.lang = language.get();
}

export function chooseLanguage(chosen: Language): void {
  keep("browser", "language", chosen);
  language.set(chosen);
  applyLanguage();
}

/** The texts in the language of the page. */
export function useText(): Dictionary {
  return DICTIONARIES[useValue(language)];
}

export interface Format {
  number(value: number): string;
  /** The time of day, to the second. */
  time(moment: number | string): string;
  /** The time of day, to the millisecond. */
  exactTime(moment: number | string): string;
}

/** Numbers and times as the language of the page writes them. */
export function useFormat(): Format {
  const chosen = useValue(language);
  return useMemo(() => formatOf(chosen), [chosen]);
}

function formatOf(chosen: Language): Format {
  const numbers = new Intl.NumberFormat(chosen);
  const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" } as const;
  const times = new Intl.DateTimeFormat(chosen, clock);
  const exactTimes = new Intl.DateTimeFormat(chosen, { ...clock, fractionalSecondDigits: 3 });
  return {
    number: (value) => numbers.format(value),
    time: (moment) => times.format(new Date(moment)),
    exactTime: (moment) => exactTimes.format(new Date(moment)),
  };
}

function known(tag: string | undefined): Language | undefined {
  return LANGUAGES.find((language) => tag?.toLowerCase().split("-")[0] === language);
}
