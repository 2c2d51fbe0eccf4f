"use strict";
// What the scripts of every page use: data in script elements, and elements that hold text and never markup.

async function unpack(text) {
  const value = JSON.parse(text);
  if (!value || typeof value.deflated !== "string") return value;
  if (typeof DecompressionStream === "undefined") throw new Error("no DecompressionStream");
  const bytes = Uint8Array.from(atob(value.deflated), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

// The data that stand inside an element.
function dataOf(inside) {
  return unpack(inside.querySelector('script[type="application/json"]').textContent);
}

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Text with the searched words marked.
function marked(kind, text, words) {
  const made = element("p", kind);
  made.dir = "auto";
  if (text.length > 1200) made.tabIndex = 0; // it scrolls
  const low = text.toLowerCase();
  let from = 0;
  for (let at = words ? low.indexOf(words) : -1; at >= 0 && from <= text.length; at = low.indexOf(words, from)) {
    made.append(text.slice(from, at), element("mark", "", text.slice(at, at + words.length)));
    from = at + words.length;
  }
  made.append(text.slice(from));
  return made;
}
