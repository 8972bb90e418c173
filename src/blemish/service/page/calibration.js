// The verdict at any false-alarm rate, from the scores of good images that calibrated the model. It must agree with
// blemish/calibration/conformal.py to the last bit; a test compares them.

const ROUNDING = 1e-4; // scores that differ by less count as equal, since engines round differently

/** Returns the lowest false-alarm rate that is possible with `count` scores. */
export function lowestRate(count) {
  return 1 / (count + 1);
}

/** Returns the threshold at a rate, from `lowestRate` up to 1, of scores in ascending order. */
export function thresholdAt(scores, rate) {
  const rank = Math.ceil((scores.length + 1) * (1 - rate) - 1e-9);
  return roundedUp(scores[rank - 1]);
}

/** Returns (1 + the number of scores that are at least as high) / (n + 1). */
export function pValue(scores, score) {
  let low = 0;
  let high = scores.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (roundedUp(scores[middle]) < score) low = middle + 1;
    else high = middle;
  }
  return (1 + scores.length - low) / (scores.length + 1);
}

function roundedUp(score) {
  return score + ROUNDING * Math.abs(score);
}
