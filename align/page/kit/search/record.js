// Recording: the microphone becomes a WAV file of 16 bits, made in the page.
import { take } from "./files.js";
import { clearProblems, tell } from "./problems.js";

const button = document.getElementById("record"), LONGEST = 30; // seconds
let count = 0;

export function wav(blocks, rate) {
  const n = blocks.reduce((sum, block) => sum + block.length, 0), view = new DataView(new ArrayBuffer(44 + 2 * n));
  const write = (at, word) => [...word].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  write(0, "RIFF"); view.setUint32(4, 36 + 2 * n, true); write(8, "WAVEfmt "); view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); view.setUint16(22, 1, true); view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true); write(36, "data"); view.setUint32(40, 2 * n, true);
  let at = 44;
  for (const block of blocks) for (const x of block) { view.setInt16(at, Math.round(32767 * Math.max(-1, Math.min(1, x))), true); at += 2; }
  return new Blob([view.buffer], { type: "audio/wav" });
}

async function record() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true }), context = new AudioContext(), blocks = [];
  await context.audioWorklet.addModule(new URL("./recorder.js", import.meta.url));
  const node = new AudioWorkletNode(context, "recorder"), source = context.createMediaStreamSource(stream);
  node.port.onmessage = (e) => blocks.push(e.data);
  source.connect(node);
  const label = button.querySelector("span"), start = performance.now();
  button.setAttribute("aria-pressed", "true");
  const show = () => { label.textContent = `Stop ${((performance.now() - start) / 1000).toFixed(0)} s`; };
  show();
  const clock = setInterval(show, 500);
  await new Promise((done) => { button.addEventListener("click", done, { once: true }); setTimeout(done, 1000 * LONGEST); });
  clearInterval(clock);
  source.disconnect();
  for (const track of stream.getTracks()) track.stop();
  const rate = context.sampleRate;
  await context.close();
  button.setAttribute("aria-pressed", "false");
  label.textContent = "Record";
  if (!blocks.length) return tell("parts", "The microphone gave no sound.");
  count += 1;
  return take([new File([wav(blocks, rate)], `recording ${count}.wav`, { type: "audio/wav" })]);
}

export function startRecording() {
  if (!button || !document.getElementById("box").dataset.takes.includes("sound") || !navigator.mediaDevices || !window.AudioWorkletNode) return;
  button.hidden = false;
  let busy = false;
  button.addEventListener("click", async () => {
    if (busy) return;
    busy = true;
    clearProblems();
    try {
      await record();
    } catch (error) {
      tell("parts", error.name === "NotAllowedError" ? "The browser does not allow the microphone here." : "No microphone was found.");
    }
    busy = false;
  });
}
