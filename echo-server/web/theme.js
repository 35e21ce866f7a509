/*
 * The chosen theme, set before the first paint so that a dark page never flashes white.
 *
 * A classic script on purpose: modules run after the page has been drawn.
 */
(function () {
  try {
    const theme = JSON.parse(localStorage.getItem("echo.settings") || "{}").theme;
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // A browser that keeps nothing, or something that is not ours: the system's theme it is.
  }
})();
