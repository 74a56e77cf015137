// Looks: stills become turning clouds and waveforms that follow their player.
/* global clouds */
const near = new IntersectionObserver((entries) => {
  for (const e of entries) if (e.isIntersecting) { near.unobserve(e.target); turn(e.target); }
}, { rootMargin: "200px" });

async function turn(place) {
  try {
    const reply = await fetch(place.dataset.face);
    if (!reply.ok) return;
    const face = await reply.json();
    clouds.largest(face.r); // every cloud fills its card
    const still = place.querySelector("img");
    if (!still) return;
    place.dataset.still = still.src;
    still.replaceWith(clouds.canvas(face, place.dataset.up, place.dataset.name));
  } catch { /* the still picture stays */ }
}

function follow(player) {
  const audio = player.querySelector("audio"), still = player.querySelector("img"), wave = document.createElement("div");
  wave.className = "wave";
  wave.style.setProperty("--shape", `url("${still.src}")`);
  still.replaceWith(wave);
  const paint = () => {
    wave.style.setProperty("--at", `${100 * (audio.duration ? audio.currentTime / audio.duration : 0)}%`);
    if (!audio.paused && !audio.ended) requestAnimationFrame(paint);
  };
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause(); // one sound at a time
    paint();
  });
  for (const event of ["pause", "seeked", "ended"]) audio.addEventListener(event, paint);
  // The pointer's way to seek. The keyboard has the player's own.
  wave.addEventListener("click", (e) => {
    const box = wave.getBoundingClientRect(), share = (e.clientX - box.left) / box.width;
    const go = () => { audio.currentTime = share * audio.duration; audio.play().catch(() => {}); };
    if (audio.readyState) return go();
    audio.addEventListener("loadedmetadata", go, { once: true });
    return audio.load();
  });
}

function excuse(img) {
  const sorry = Object.assign(document.createElement("p"), { className: "nothing", textContent: "cannot be shown" });
  img.replaceWith(sorry);
}

// A video whose codec the browser does not play is shown by the frames of its poster.
function showPoster(video) {
  const img = Object.assign(document.createElement("img"), { className: "picture", src: video.poster, alt: video.getAttribute("aria-label") });
  img.addEventListener("error", () => excuse(img));
  video.replaceWith(img);
}

export function dress(root) {
  for (const place of root.querySelectorAll(".turning")) {
    const still = place.querySelector("img");
    near.observe(place);
    if (still && still.complete && !still.naturalWidth) excuse(still);
    else if (still) still.addEventListener("error", () => excuse(still));
  }
  for (const player of root.querySelectorAll(".player")) if (player.querySelector("img.waveform")) follow(player);
  for (const video of root.querySelectorAll("video.film")) {
    if (video.error) showPoster(video);
    else {
      video.addEventListener("error", () => showPoster(video));
      video.addEventListener("loadedmetadata", () => { if (!video.videoWidth) showPoster(video); }); // its sound alone plays
    }
  }
  for (const img of root.querySelectorAll("img.picture")) {
    const check = () => { if (!img.naturalWidth) excuse(img); else img.classList.toggle("tiny", img.naturalWidth < 48); };
    if (img.complete) check();
    else { img.addEventListener("load", check); img.addEventListener("error", () => excuse(img)); }
  }
}

dress(document);
document.addEventListener("results", () => { dress(document.getElementById("found")); clouds.clear(); });
