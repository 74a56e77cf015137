// Panels of which one is shown: that of the metric and the rule of a hit that are chosen.
for (const place of document.querySelectorAll(".panels")) {
  const panels = [...place.querySelectorAll("[data-metric]")];
  const inputs = (name) => [...place.querySelectorAll(`input[name$="-${name}"]`)];
  const chosen = (name) => inputs(name).find((input) => input.checked);
  const show = () => {
    const hit = chosen("hit") ? chosen("hit").value : panels[0].dataset.hit;
    const has = (metric) => panels.find((p) => p.dataset.hit === hit && p.dataset.metric === metric);
    for (const input of inputs("metric")) input.disabled = !has(input.value);
    if (chosen("metric").disabled) inputs("metric").find((input) => !input.disabled).checked = true;
    const panel = has(chosen("metric").value);
    for (const p of panels) p.hidden = p !== panel;
  };
  place.addEventListener("change", show);
  show();
}
