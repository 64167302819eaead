"use strict";
// Draws every chart from the JSON in the page, links the legends, and fits the charts to paper for printing.
(async () => {
  const text = (id) => document.getElementById(id).textContent;
  await run(await unpacked(text("plotly")));
  const figures = JSON.parse(text("charts"));
  const charts = [...document.querySelectorAll(".chart")];
  const boxes = [...document.querySelectorAll(".legend input")];
  // On a touch screen a drag scrolls the page; elsewhere it zooms, and a double click goes back.
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
  const config = {responsive: true, displayModeBar: false, showTips: false};

  for (const chart of charts) {
    const {data, layout} = figures[chart.dataset.figure][chart.dataset.panel];
    chart.style.minHeight = "";
    await Plotly.newPlot(chart, data, {...layout, dragmode}, config);
  }
  document.getElementById("undrawn").remove();

  const show = (name, visible) => {
    for (const box of boxes) if (box.value === name) box.checked = visible;
    for (const chart of charts) {
      const traces = chart.data.flatMap((trace, i) => (trace.meta === name ? [i] : []));
      if (traces.length) Plotly.restyle(chart, {visible}, traces);
    }
  };
  for (const box of boxes) box.addEventListener("change", () => show(box.value, box.checked));

  const PAPER = 640; // CSS pixels between the margins of an A4 or Letter page
  addEventListener("beforeprint", () => charts.forEach((chart) => Plotly.relayout(chart, {width: PAPER})));
  addEventListener("afterprint", () => charts.forEach((chart) => Plotly.relayout(chart, {width: null, autosize: true})));

  // The bundle travels deflated, in base64.
  function unpacked(base64) {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  }

  // The page's policy lets this script run because it knows its hash.
  function run(code) {
    const script = document.createElement("script");
    script.textContent = code;
    document.head.append(script);
  }
})();
