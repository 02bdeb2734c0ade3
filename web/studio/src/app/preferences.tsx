import { Choice } from "../components/choice";
import { Icon } from "../components/icon";
import { chooseLanguage, DICTIONARIES, LANGUAGES, language, useText } from "./i18n";
import { chooseTheme, THEMES, theme } from "./theme";
import { useValue } from "./value";

const THEME_ICONS = { system: "system", light: "sun", dark: "moon" } as const;

export function ThemeChoice() {
  const { app } = useText();
  const options = THEMES.map((value) => ({
    value,
    label: app.themes[value],
    face: <Icon name={THEME_ICONS[value]} />,
  }));
  return <Choice label={app.chooseTheme} options={options} value={useValue(theme)} onChange={chooseTheme} />;
}

export function LanguageChoice() {
  const { app } = useText();
  const options = LANGUAGES.map((value) => ({
    value,
    label: DICTIONARIES[value].languageName,
    face: <span lang={value}>{value.toUpperCase()}</span>,
  }));
  return (
    <Choice
      label={app.chooseLanguage}
      options={options}
      value={useValue(language)}
      onChange={chooseLanguage}
    />
  );
}
