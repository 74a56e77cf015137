// Point clouds: one small software renderer for all canvases. Points are balls with a depth buffer, lit by their normals.
const clouds = (() => {
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const all = new Set(), F = 3.4; // F: the eye's distance in radii
  let largest = 1, scratch = { size: 0 }, last = 0, turn = 0.6;

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

  function draw(c) {
    const size = c.canvas.width;
    if (scratch.size !== size) scratch = { size, image: new ImageData(size, size), depth: new Float32Array(size * size) };
    const { image, depth } = scratch, out = image.data;
    out.fill(0);
    depth.fill(1e9);
    const yaw = c.auto ? turn : c.yaw, cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(c.pitch), sp = Math.sin(c.pitch);
    const zoom = 0.43 * size * c.size, ball = zoom * Math.min(0.09, 1.25 / Math.sqrt(c.n));
    for (let i = 0; i < c.n; i++) {
      const j = 3 * i, x = c.place[j], y = c.place[j + 1], z = c.place[j + 2];
      const rx = x * cy - y * sy, ry = x * sy + y * cy;
      const up = z * cp + ry * sp, far = ry * cp - z * sp, s = F / (F + far);
      let nx = c.normal[j] * cy - c.normal[j + 1] * sy;
      const ny = c.normal[j] * sy + c.normal[j + 1] * cy;
      let nu = c.normal[j + 2] * cp + ny * sp, nf = ny * cp - c.normal[j + 2] * sp;
      if (nf > 0) { nx = -nx; nu = -nu; nf = -nf; } // both sides of a surface are lit
      const lit = Math.max(0, -0.42 * nx + 0.68 * nu - 0.6 * nf), gloss = Math.max(0, -0.23 * nx + 0.38 * nu - 0.9 * nf) ** 30;
      const light = 0.55 + 0.54 * lit, shine = 46 * gloss, alpha = 255 * (1 - 0.42 * Math.max(0, Math.min(1, (far + 1) / 2)));
      const red = c.colour[j] * light + shine, green = c.colour[j + 1] * light + shine, blue = c.colour[j + 2] * light + shine;
      const px = size / 2 + zoom * rx * s, py = size / 2 - zoom * up * s, r = Math.max(1, ball * s), rr = r * r;
      const x1 = Math.min(size - 1, Math.floor(px + r)), y1 = Math.min(size - 1, Math.floor(py + r));
      for (let v = Math.max(0, Math.ceil(py - r)); v <= y1; v++) {
        for (let u = Math.max(0, Math.ceil(px - r)); u <= x1; u++) {
          const d = (u - px) ** 2 + (v - py) ** 2, k = v * size + u;
          if (d > rr) continue;
          const near = far - Math.sqrt(rr - d) / zoom;
          if (near >= depth[k]) continue;
          depth[k] = near;
          const rim = 1 - 0.22 * (d / rr), o = 4 * k;
          out[o] = red * rim; out[o + 1] = green * rim; out[o + 2] = blue * rim; out[o + 3] = alpha;
        }
      }
    }
    c.context.putImageData(image, 0, 0);
    c.dirty = false;
  }

  const watch = new IntersectionObserver((entries) => {
    for (const e of entries) { e.target.cloud.seen = e.isIntersecting; e.target.cloud.dirty = true; }
  }, { rootMargin: "40px" });

  function frame(now) {
    requestAnimationFrame(frame);
    if (now - last < 31) return;
    const moving = !still.matches;
    if (moving) turn += Math.min(100, now - last) * 0.00045;
    last = now;
    for (const c of all) if (c.seen && (c.dirty || (c.auto && moving))) draw(c);
  }
  requestAnimationFrame(frame);

  function touch(c) { if (c.auto) { c.auto = false; c.yaw = turn; } c.dirty = true; }

  return {
    largest(radius) { largest = radius; },
    // Forget the canvases that are no longer on the page.
    clear() { for (const c of all) if (!c.canvas.isConnected) { watch.unobserve(c.canvas); all.delete(c); } },
    // A canvas that shows the face {d, r}: drag or arrow keys turn it, a double click lets it turn by itself again.
    canvas(face, up, label) {
      const canvas = document.createElement("canvas"), raw = bytes(face.d), n = raw.length / 9;
      canvas.width = canvas.height = 150 * Math.max(2, Math.min(3, devicePixelRatio || 1)) | 0;
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${label}; arrow keys turn it`);
      const axes = (part) => {
        const out = new Float32Array(3 * n), signed = new Int8Array(raw.buffer, part * 3 * n, 3 * n);
        for (let i = 0; i < 3 * n; i += 3) {
          out[i] = signed[i] / 127;
          out[i + 1] = (up === "y" ? -signed[i + 2] : signed[i + 1]) / 127;
          out[i + 2] = (up === "y" ? signed[i + 1] : signed[i + 2]) / 127;
        }
        return out;
      };
      const c = {
        canvas, context: canvas.getContext("2d"), n, place: axes(0), normal: axes(1), colour: raw.subarray(6 * n),
        size: 0.5 + 0.5 * Math.min(1, face.r / largest), yaw: 0, pitch: 0.42, auto: true, dirty: true, seen: false,
      };
      canvas.cloud = c;
      let from = null;
      canvas.addEventListener("pointerdown", (e) => { touch(c); from = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
      canvas.addEventListener("pointermove", (e) => {
        if (!from) return;
        c.yaw += (e.clientX - from[0]) * 0.012;
        c.pitch = Math.max(-1.5, Math.min(1.5, c.pitch + (e.clientY - from[1]) * 0.01));
        from = [e.clientX, e.clientY];
        c.dirty = true;
      });
      for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { from = null; });
      canvas.addEventListener("dblclick", () => { c.auto = true; c.pitch = 0.42; c.dirty = true; });
      canvas.addEventListener("keydown", (e) => {
        const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
        if (!way) return;
        e.preventDefault();
        touch(c);
        c.yaw += 0.2 * way[0];
        c.pitch = Math.max(-1.5, Math.min(1.5, c.pitch + 0.15 * way[1]));
      });
      all.add(c);
      watch.observe(canvas);
      return canvas;
    },
  };
})();
