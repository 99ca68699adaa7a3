// Refreshes what has `data-every` (seconds), by htmx: more and more seldom, more seldom still after an error, not in a
// tab that nobody sees, and no more once the page says so by leaving `data-every` out. What had the focus keeps it; if
// it is gone, the page's content has it. Every page works without this.
"use strict";

(() => {
  const SLOWEST_SECONDS = 30, GROWS = 1.25, AFTER_ERROR = 2;
  let seconds = 0, timer = 0, hadFocus = false;

  const live = () => document.querySelector("[data-every]");

  const plan = (factor) => {
    const element = live();
    clearTimeout(timer);
    if (!element) return;
    seconds = factor ? Math.min(seconds * factor, SLOWEST_SECONDS) : Number(element.dataset.every);
    timer = setTimeout(refresh, seconds * 1000);
  };

  const refresh = () => {
    const element = live();
    if (element && !document.hidden) htmx.trigger(element, "refresh");
  };

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && live()) { seconds = 0; refresh(); plan(); }
  });
  document.addEventListener("htmx:before:swap", () => { hadFocus = live()?.contains(document.activeElement); });
  document.addEventListener("htmx:after:swap", () => {
    if (hadFocus && document.activeElement === document.body) {
      document.getElementById("content").focus({ preventScroll: true });
    }
    plan(GROWS);
  });
  for (const failure of ["htmx:error", "htmx:response:error"]) {
    document.addEventListener(failure, () => plan(AFTER_ERROR));
  }
  plan();
})();
