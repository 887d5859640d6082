// A short tone for a new alert, made here: higher and repeated for what is worse. Off until someone turns it on.

const TONES = { critical: [880, 660, 880], high: [740, 740], medium: [590], low: [440] };
let audio = null;

export function chime(severity) {
  audio ??= new AudioContext();
  (TONES[severity] ?? TONES.low).forEach((frequency, i) => {
    const at = audio.currentTime + i * 0.18;
    const tone = audio.createOscillator();
    const level = audio.createGain();
    tone.frequency.value = frequency;
    level.gain.setValueAtTime(0.0001, at);
    level.gain.exponentialRampToValueAtTime(0.12, at + 0.02);
    level.gain.exponentialRampToValueAtTime(0.0001, at + 0.16);
    tone.connect(level).connect(audio.destination);
    tone.start(at);
    tone.stop(at + 0.17);
  });
}
