// SHA-256 of a file, in hex. The browser's own where the page is secure; a park's own network often has no certificate, so also
// in plain code (FIPS 180-4).

const K = constants(64, 1 / 3);
const H = constants(8, 1 / 2);

function constants(n, power) {
  const found = [];
  for (let x = 2; found.length < n; x += 1) {
    let prime = true;
    for (let d = 2; d * d <= x; d += 1) if (x % d === 0) prime = false;
    if (prime) found.push(((x ** power) % 1) * 2 ** 32 | 0);
  }
  return found;
}

const hex = (bytes) => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");

export async function sha256(file) {
  const data = new Uint8Array(await file.arrayBuffer());
  return crypto.subtle ? hex(new Uint8Array(await crypto.subtle.digest("SHA-256", data))) : plain(data);
}

export function plain(data) {
  const length = data.length;
  const padded = new Uint8Array(((length + 72) >> 6) << 6);
  padded.set(data);
  padded[length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(length / 2 ** 29));
  view.setUint32(padded.length - 4, (length << 3) >>> 0);
  const state = [...H];
  const w = new Int32Array(64);
  for (let at = 0; at < padded.length; at += 64) block(state, w, view, at);
  const out = new DataView(new ArrayBuffer(32));
  state.forEach((v, i) => out.setUint32(4 * i, v >>> 0));
  return hex(new Uint8Array(out.buffer));
}

const turn = (x, n) => (x >>> n) | (x << (32 - n));

function block(state, w, view, at) {
  for (let i = 0; i < 16; i += 1) w[i] = view.getInt32(at + 4 * i);
  for (let i = 16; i < 64; i += 1) {
    const a = w[i - 15];
    const b = w[i - 2];
    w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ (a >>> 3)) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ (b >>> 10));
  }
  let [a, b, c, d, e, f, g, k] = state;
  for (let i = 0; i < 64; i += 1) {
    const one = (k + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
    const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [k, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
  }
  [a, b, c, d, e, f, g, k].forEach((v, i) => { state[i] = (state[i] + v) | 0; });
}
