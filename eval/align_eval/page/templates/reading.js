// The data of the browser of items: how it is unpacked, and what the verdicts of a pair come to.

const parts = new Map();

function texts(number) {
  if (!parts.has(number)) parts.set(number, unpack(document.getElementById(`texts-${number}`).textContent));
  return parts.get(number);
}

function partOf(index, item) {
  let low = 0, high = index.starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (index.starts[middle] <= item) low = middle; else high = middle - 1;
  }
  return low;
}

// Grades of both models by one judge are a game: the higher one wins.
function gamesOf(index, numbers, first, second) {
  const { a, b, judge, repeat, score } = index.verdicts;
  const grades = new Map();
  for (const n of numbers) {
    if (b[n] >= 0 || ![first, second].includes(a[n])) continue;
    const key = `${judge[n]} ${repeat[n]}`;
    if (!grades.has(key)) grades.set(key, { judge: judge[n] });
    grades.get(key)[a[n]] = score[n];
  }
  return [...grades.values()].filter((game) => first in game && second in game).map((game) => {
    const gap = game[first] === null || game[second] === null ? null : game[first] - game[second];
    return { judge: game.judge, score: gap === null ? null : (Math.sign(gap) + 1) / 2 };
  });
}

// What the verdicts of a pair come to, from the first model's side.
function outcomeOf(index, numbers, first, second) {
  const { a, b, judge, swapped, repeat, score } = index.verdicts;
  const scores = [], byJudge = new Map(), byOrder = new Map();
  let missing = 0;
  for (const game of first === second ? [] : gamesOf(index, numbers, first, second)) {
    if (game.score === null) { missing += 1; continue; }
    scores.push(game.score);
    byJudge.set(game.judge, [...(byJudge.get(game.judge) ?? []), game.score]);
  }
  for (const n of numbers) {
    if (b[n] < 0 || !((a[n] === first && b[n] === second) || (a[n] === second && b[n] === first))) continue;
    if (score[n] === null) { missing += 1; continue; }
    const value = a[n] === first ? score[n] : 1 - score[n];
    scores.push(value);
    if (!byJudge.has(judge[n])) byJudge.set(judge[n], []);
    byJudge.get(judge[n]).push(value);
    if (swapped[n] === null) continue; // nobody knows the order
    const key = `${judge[n]} ${repeat[n]}`;
    const order = swapped[n] !== (a[n] === first ? 0 : 1) ? 1 : 0;
    if (!byOrder.has(key)) byOrder.set(key, [null, null]);
    byOrder.get(key)[order] = value;
  }
  const mean = (some) => some.reduce((x, y) => x + y, 0) / some.length;
  const side = (value) => Math.sign(Math.round((value - 0.5) * 1e9));
  return {
    mean: scores.length ? mean(scores) : null,
    missing,
    orders: [...byOrder.values()].some(([x, y]) => x !== null && y !== null && side(x) !== side(y)),
    judges: new Set([...byJudge.values()].map((some) => side(mean(some)))).size > 1,
  };
}

// What two models' scores come to by one metric: given as {model: value}, a missing value null.
function outcomeOfScores(values, first, second) {
  const none = { mean: null, missing: 0, orders: false, judges: false };
  if (!values || !(first in values) || !(second in values)) return none;
  const [ours, theirs] = [values[first], values[second]];
  if (ours === null || theirs === null) return { ...none, missing: 1 };
  return { ...none, mean: (Math.sign(ours - theirs) + 1) / 2, words: `${short(ours)} : ${short(theirs)}` };
}

function short(value) { return String(Number(value.toPrecision(3))); }

function fits(found, wanted) {
  if (wanted === "first") return found.mean !== null && found.mean > 0.5;
  if (wanted === "second") return found.mean !== null && found.mean < 0.5;
  if (wanted === "tie") return found.mean === 0.5;
  if (wanted === "orders") return found.orders;
  if (wanted === "judges") return found.judges;
  if (wanted === "missing") return found.missing > 0;
  return true;
}

function told(index, n) {
  const { a, b, swapped, score } = index.verdicts;
  const [first, second] = [index.models[a[n]], b[n] < 0 ? "" : index.models[b[n]]];
  if (score[n] === null) return "no verdict";
  if (b[n] < 0) return `grade ${score[n]} for ${first}`;
  const order = swapped[n] === null ? "no order is known" : `${swapped[n] ? second : first} shown first`;
  if (score[n] === 0.5) return `tie (${order})`;
  const sure = score[n] === 0 || score[n] === 1 ? "" : ` with ${Math.max(score[n], 1 - score[n]).toFixed(2)}`;
  return `${score[n] > 0.5 ? first : second} preferred${sure} (${order})`;
}
