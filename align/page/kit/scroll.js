// Frames with more than they show take the focus, so that the arrow keys scroll them in every browser.
(() => {
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const more = target.scrollWidth > target.clientWidth || target.scrollHeight > target.clientHeight;
      if (more) target.tabIndex = 0; else target.removeAttribute("tabindex");
    }
  });
  for (const frame of document.querySelectorAll(".scroll")) watch.observe(frame);
})();
