// The camera: a picture of the moment, as a file of the query.
import { take } from "./files.js";
import { clearProblems, tell } from "./problems.js";

const button = document.getElementById("camera"), place = document.getElementById("snap");
let count = 0;

function make(name, text) {
  const out = Object.assign(document.createElement("button"), { type: "button", className: name, textContent: text });
  return out;
}

async function open() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: true }), video = document.createElement("video");
  video.muted = video.playsInline = true;
  video.srcObject = stream;
  video.setAttribute("aria-label", "The camera's picture");
  const snap = make("go", "Take the picture"), cancel = make("quiet", "Cancel");
  place.replaceChildren(video, snap, cancel);
  place.hidden = false;
  await video.play();
  snap.focus();
  const taken = await new Promise((done) => {
    snap.addEventListener("click", () => done(true));
    cancel.addEventListener("click", () => done(false));
    place.addEventListener("keydown", (e) => { if (e.key === "Escape") done(false); });
  });
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  for (const track of stream.getTracks()) track.stop();
  place.hidden = true;
  place.replaceChildren();
  button.focus();
  if (!taken) return;
  const blob = await new Promise((done) => { canvas.toBlob(done, "image/jpeg", 0.92); });
  count += 1;
  take([new File([blob], `camera ${count}.jpg`, { type: "image/jpeg" })]);
}

export function startCamera() {
  if (!button || !document.getElementById("box").dataset.takes.includes("picture") || !navigator.mediaDevices) return;
  button.hidden = false;
  button.addEventListener("click", async () => {
    if (!place.hidden) return;
    clearProblems();
    try {
      await open();
    } catch (error) {
      tell("parts", error.name === "NotAllowedError" ? "The browser does not allow the camera here." : "No camera was found.");
    }
  });
}
