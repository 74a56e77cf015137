// The retrieval matrix: show the panel of the metric and the meaning of a hit that are chosen.
(() => {
  const matrix = document.getElementById("matrix");
  if (!matrix) return;
  const panels = [...matrix.querySelectorAll("[data-metric]")];
  const chosen = (name) => matrix.querySelector(`input[name="${name}"]:checked`);
  const show = () => {
    const hit = chosen("hit") ? chosen("hit").value : panels[0].dataset.hit;
    const has = (metric) => panels.find((p) => p.dataset.hit === hit && p.dataset.metric === metric);
    for (const input of matrix.querySelectorAll('input[name="metric"]')) input.disabled = !has(input.value);
    if (chosen("metric").disabled) matrix.querySelector('input[name="metric"]:not(:disabled)').checked = true;
    const panel = has(chosen("metric").value);
    for (const p of panels) p.hidden = p !== panel;
  };
  matrix.addEventListener("change", show);
  show();
})();
