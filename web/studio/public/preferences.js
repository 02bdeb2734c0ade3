// Applies the remembered theme before the first paint. A script of its own, since the page allows none within it.
try {
  const theme = localStorage.getItem("sillage.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Without storage there is nothing to remember, and the system decides.
}
