// Sounds: a button with the drawn waveform. A click on the wave plays from there; one sound plays at a time.
const sounds = (() => {
  const SVG = "http://www.w3.org/2000/svg", PLAY = "M4 2.5v11l9.5-5.5z", PAUSE = "M3.5 2.5h3v11h-3zM9.5 2.5h3v11h-3z";
  let playing = null, count = 0;

  const svg = (name, attributes, ...children) => {
    const e = document.createElementNS(SVG, name);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    e.append(...children);
    return e;
  };

  function stop() { if (playing) playing.pause(); }

  function button(face, label) {
    const peaks = Uint8Array.from(atob(face.w), (c) => c.charCodeAt(0)), id = `wave-${count++}`;
    const bars = () => [...peaks].map((p, i) => {
      const h = Math.max(2, (p / 255) * 42);
      return svg("rect", { x: i * 4, y: 22 - h / 2, width: 2.4, height: h, rx: 1.2 });
    });
    const done = svg("rect", { x: 0, y: 0, width: 0, height: 44 });
    const wave = svg("svg", { class: "wave", viewBox: `0 0 ${peaks.length * 4 - 1.6} 44`, preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("clipPath", { id }, done), svg("g", {}, ...bars()), svg("g", { class: "on", "clip-path": `url(#${id})` }, ...bars()));
    const sign = svg("path", { d: PLAY }), disc = document.createElement("span"), time = document.createElement("small");
    disc.className = "disc";
    disc.append(svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, sign));
    time.textContent = `${face.s.toFixed(1)} s`;
    const out = document.createElement("button");
    out.type = "button";
    out.className = "sound";
    out.setAttribute("aria-label", `play ${label}`);
    out.setAttribute("aria-pressed", "false");
    out.append(disc, wave, time);

    let audio = null;
    const paint = () => {
      const on = audio && !audio.paused && !audio.ended && !audio.error, share = audio ? audio.currentTime / (audio.duration || face.s) : 0;
      done.setAttribute("width", (audio && audio.ended ? 0 : share) * peaks.length * 4);
      sign.setAttribute("d", on ? PAUSE : PLAY);
      out.setAttribute("aria-pressed", String(Boolean(on)));
      if (on) requestAnimationFrame(paint);
    };
    out.addEventListener("click", (e) => {
      if (!audio) {
        audio = new Audio(`data:${face.t};base64,${face.d}`);
        for (const event of ["play", "pause", "ended"]) audio.addEventListener(event, paint);
        audio.addEventListener("error", () => { audio.pause(); time.textContent = "cannot be played here"; paint(); });
      }
      if (!audio.paused) return audio.pause();
      if (playing && playing !== audio) stop();
      playing = audio;
      const box = wave.getBoundingClientRect(), share = (e.clientX - box.left) / box.width;
      if (e.detail && e.clientY >= box.top && e.clientY <= box.bottom && share >= 0 && share <= 1) audio.currentTime = share * face.s;
      audio.play().catch(() => {});
      return undefined;
    });
    return out;
  }

  return { button, stop };
})();
