// Charts: a read-out at the pointer, or by the arrow keys.
(() => {
  const number = (v) => (Math.abs(v) >= 1e4 || (v && Math.abs(v) < 1e-3) ? v.toExponential(2) : String(+v.toPrecision(4)));
  const element = (name, className, ...children) => {
    const e = document.createElement(name);
    e.className = className;
    e.append(...children);
    return e;
  };
  const nearest = (points, x) => {
    let low = 0, high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < x) low = middle; else high = middle;
    }
    return x - points[low][0] < points[high][0] - x ? points[low] : points[high];
  };

  for (const figure of document.querySelectorAll(".chart:has(> script)")) {
    const data = JSON.parse(figure.querySelector("script").textContent);
    const [left, right, top, bottom, width] = data.box, [y0, y1] = data.y;
    const onAxis = data.log ? Math.log : (x) => x, offAxis = data.log ? Math.exp : (x) => x, [x0, x1] = data.x.map(onAxis);
    const plot = figure.querySelector(".plot"), svg = plot.querySelector("svg"), readout = plot.querySelector(".readout");
    const unit = svg.querySelector(".unit").textContent, cursor = svg.querySelector(".cursor"), line = cursor.querySelector("line");
    const groups = [...svg.querySelectorAll(".s")], { edges } = data;
    const ends = (s) => (s.b ? [element("small", "ends", s.b[s.p.indexOf(s.point)])] : []);
    const px = (x) => (x1 > x0 ? left + ((right - left) * (onAxis(x) - x0)) / (x1 - x0) : (left + right) / 2);
    const py = (y) => bottom - ((bottom - top) * (y - y0)) / (y1 - y0 || 1);
    let at = x1;

    const show = (step) => {
      at = Math.min(x1, Math.max(x0, step));
      const seen = data.series.map((s, i) => ({ ...s, i, point: nearest(s.p, offAxis(at)) })).filter((s) => !groups[s.i].classList.contains("off"));
      if (!seen.length) return hide();
      const anchor = seen.reduce((a, b) => (Math.abs(onAxis(a.point[0]) - at) <= Math.abs(onAxis(b.point[0]) - at) ? a : b)).point[0];
      const x = px(anchor);
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      cursor.querySelectorAll("circle").forEach((c) => c.remove());
      const bin = edges ? edges.findLastIndex((edge) => edge <= anchor) : -1;
      const where = edges ? `${number(edges[bin])} to ${number(edges[bin + 1])}` : anchor.toLocaleString("en");
      readout.replaceChildren(element("div", "", `${unit} ${where}`));
      for (const s of seen.sort((a, b) => b.point[1] - a.point[1])) {
        const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
        for (const [k, v] of Object.entries({ class: s.c, cx: px(s.point[0]), cy: Math.max(top, Math.min(bottom, py(s.point[1]))), r: 3.5 })) dot.setAttribute(k, v);
        cursor.append(dot);
        const far = Math.abs(onAxis(s.point[0]) - onAxis(anchor)) > 0.02 * (x1 - x0) ? ` (${unit} ${s.point[0]})` : "";
        readout.append(element("div", "", element("i", s.c), s.n + far, element("b", "", number(s.point[1])), ...ends(s)));
      }
      cursor.setAttribute("visibility", "visible");
      readout.hidden = false;
      const scale = svg.clientWidth / width, room = plot.clientWidth - readout.offsetWidth;
      const beside = x * scale + (x > (left + right) / 2 ? -readout.offsetWidth - 12 : 12);
      readout.style.transform = `translate(${Math.max(0, Math.min(room, beside))}px, ${top * scale}px)`;
    };
    const hide = () => { cursor.setAttribute("visibility", "hidden"); readout.hidden = true; };

    const follow = (e) => {
      const x = ((e.clientX - svg.getBoundingClientRect().left) / svg.clientWidth) * width;
      show(x0 + ((x - left) / (right - left)) * (x1 - x0));
    };
    plot.addEventListener("pointermove", follow);
    plot.addEventListener("pointerdown", follow);
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (e) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
      if (!way) return;
      e.preventDefault();
      show(at + (way * (x1 - x0)) / 50);
    });
  }
})();
