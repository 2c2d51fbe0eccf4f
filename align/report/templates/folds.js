// Parts that fold: opened where a link leads into them and for the printer, and left as they are when a page that is
// still written to is read anew.

function reveal() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement?.closest("details")) part.open = true;
  if (target) target.scrollIntoView();
}

function openForPrint() {
  const closed = [...document.querySelectorAll("details.part:not([open])")];
  addEventListener("beforeprint", () => closed.forEach((part) => { part.open = true; }));
  addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));
}

// Which parts are open, by their place; kept for this tab alone.
function keepFolds() {
  const parts = [...document.querySelectorAll("details")], key = `folds of ${location.pathname}`;
  try {
    const open = JSON.parse(sessionStorage.getItem(key));
    if (open?.length === parts.length) parts.forEach((part, i) => { part.open = open[i]; });
    addEventListener("pagehide", () => sessionStorage.setItem(key, JSON.stringify(parts.map((part) => part.open))));
  } catch { /* a browser that keeps nothing for files: every part as it was written */ }
}

// A page of a run that goes on is read anew, but not while somebody types in it or has zoomed into a chart.
function readAnew(seconds) {
  keepFolds();
  setInterval(() => {
    const busy = ["INPUT", "SELECT"].includes(document.activeElement.tagName) || document.querySelector(".zoomed");
    if (!busy) location.reload();
  }, 1000 * seconds);
}

addEventListener("hashchange", reveal);
openForPrint();
if (document.querySelector("main").dataset.watched) readAnew(Number(document.querySelector("main").dataset.watched));
reveal();
