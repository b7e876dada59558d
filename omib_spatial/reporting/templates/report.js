"use strict";
// The page's own script: spots and regions over the picture, the call level, and what leads to a place.
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const UNKNOWN = "#A6A6A6";
  const ROUND = [1, 2, 5];

  const share = (part) => (part > 0 && part < 0.005 ? "less than 1 %" : `${Math.round(100 * part)} %`);
  const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2));

  class Slide {
    constructor(root, data) {
      data.score = data.layers.score.values;
      Object.assign(this, { root, data, layer: "score", level: null, opacity: 0.65, chosen: -1, marked: -1 });
      this.show = { picture: true, regions: true };
      this.scores = data.score.filter((value) => value !== null).sort((a, b) => a - b);
      this.fill = [];
      this.open();
      this.controls();
      this.colour();
      this.count();
    }

    // ---- the picture and what lies over it

    open() {
      const element = this.root.querySelector(".viewer");
      this.viewer = new OpenSeadragon({
        element,
        tileSources: { type: "image", url: this.data.picture },
        drawer: "canvas",
        showNavigationControl: false,
        maxZoomPixelRatio: 12,
        visibilityRatio: 0.4,
        gestureSettingsMouse: { clickToZoom: false },
        gestureSettingsTouch: { clickToZoom: false },
        // Where the reader asked for less motion, the picture jumps.
        animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.6,
      });
      this.canvas = document.createElement("canvas");
      this.canvas.className = "spots";
      this.canvas.setAttribute("aria-hidden", "true");
      this.viewer.canvas.appendChild(this.canvas);
      this.viewer.canvas.setAttribute("aria-label", element.getAttribute("aria-label"));
      for (const event of ["open", "update-viewport", "resize"]) this.viewer.addHandler(event, () => this.draw());
      this.viewer.addHandler("open", () => {
        this.root.dataset.ready = "true";
        this.draw();
      });
      this.viewer.addHandler("canvas-click", (event) => event.quick && this.tell(this.nearest(event.position)));
      element.addEventListener("mousemove", (event) => {
        const box = element.getBoundingClientRect();
        this.tell(this.nearest(new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top)));
      });
    }

    place() {
      const item = this.viewer.world.getItemAt(0);
      if (!item) return null;
      const zero = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
      const one = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(1000, 0));
      return { x: zero.x, y: zero.y, scale: (one.x - zero.x) / 1000 };
    }

    draw() {
      const at = this.place();
      if (!at) return;
      const ratio = window.devicePixelRatio || 1;
      const width = this.viewer.canvas.clientWidth, height = this.viewer.canvas.clientHeight;
      if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
        this.canvas.width = Math.round(width * ratio);
        this.canvas.height = Math.round(height * ratio);
        this.canvas.style.width = `${width}px`;
        this.canvas.style.height = `${height}px`;
      }
      const pen = this.canvas.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      if (this.layer !== "none") this.spots(pen, at, width, height);
      if (this.show.regions) this.outlines(pen, at);
      if (this.marked >= 0) this.ring(pen, at, this.marked);
      this.scaleBar(at);
    }

    spots(pen, at, width, height) {
      const { x, y, radius } = this.data;
      const r = Math.max(radius * at.scale, 0.8);
      pen.globalAlpha = this.opacity;
      for (let i = 0; i < x.length; i += 1) {
        const px = at.x + x[i] * at.scale, py = at.y + y[i] * at.scale;
        if (px < -r || py < -r || px > width + r || py > height + r || this.fill[i] === null) continue;
        pen.fillStyle = this.fill[i];
        if (r < 1.5) {
          pen.fillRect(px - r, py - r, 2 * r, 2 * r);
          continue;
        }
        pen.beginPath();
        pen.arc(px, py, r, 0, 2 * Math.PI);
        pen.fill();
        // Called spots are told apart by a dark line, too, not by colour alone.
        if (this.layer === "call" && this.isCalled(i) && r > 2) {
          pen.strokeStyle = "#222";
          pen.lineWidth = 1;
          pen.stroke();
        }
      }
      pen.globalAlpha = 1;
    }

    outlines(pen, at) {
      this.data.regions.forEach((region, number) => {
        pen.beginPath();
        for (const ring of region.rings) {
          ring.forEach(([px, py], i) => pen[i ? "lineTo" : "moveTo"](at.x + px * at.scale, at.y + py * at.scale));
          pen.closePath();
        }
        const wide = number === this.chosen ? 3.5 : 2;
        pen.lineJoin = "round";
        for (const [colour, width] of [["#fff", wide + 2.5], ["#111", wide]]) {
          pen.strokeStyle = colour;
          pen.lineWidth = width;
          pen.stroke();
        }
      });
      this.names(pen, at);
    }

    // Names of regions, the chosen and the largest first; one that would lie on another waits for a closer view.
    names(pen, at) {
      pen.font = "700 17px sans-serif";
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.lineWidth = 5;
      pen.strokeStyle = "#fff";
      pen.fillStyle = "#111";
      const first = this.chosen < 0 ? [] : [this.data.regions[this.chosen]];
      const placed = [];
      for (const region of new Set([...first, ...this.data.regions])) {
        const x = at.x + region.label[0] * at.scale, y = at.y + region.label[1] * at.scale;
        const half = pen.measureText(region.short).width / 2 + 3;
        if (placed.some((other) => Math.abs(x - other.x) < half + other.half && Math.abs(y - other.y) < 20)) continue;
        placed.push({ x, y, half });
        pen.strokeText(region.short, x, y);
        pen.fillText(region.short, x, y);
      }
    }

    ring(pen, at, i) {
      pen.beginPath();
      const r = Math.max(this.data.radius * at.scale, 3) + 3;
      pen.arc(at.x + this.data.x[i] * at.scale, at.y + this.data.y[i] * at.scale, r, 0, 2 * Math.PI);
      for (const [colour, width] of [["#fff", 5], ["#0b5fa5", 2.5]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = width;
        pen.stroke();
      }
    }

    scaleBar(at) {
      const bar = this.root.querySelector(".bar");
      if (!this.data.um) return;
      const most = (110 / at.scale) * this.data.um;
      const power = 10 ** Math.floor(Math.log10(most));
      const length = power * Math.max(...ROUND.filter((digit) => digit * power <= most));
      bar.style.display = "block";
      bar.firstElementChild.style.width = `${(length / this.data.um) * at.scale}px`;
      bar.firstElementChild.textContent = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
    }

    // ---- calls and colours

    isCalled(i) {
      if (this.level === null) return this.data.called[i] === 1;
      return this.data.score[i] !== null && this.data.score[i] > this.level;
    }

    colour() {
      const layer = this.data.layers[this.layer];
      if (!layer) {
        this.fill = [];
      } else if (this.layer === "call") {
        const [none, abnormal] = ["not called", "abnormal"].map((name) => this.callColour(name));
        this.fill = this.data.score.map((score, i) => (score === null ? UNKNOWN : this.isCalled(i) ? abnormal : none));
      } else if (layer.kind === "number") {
        const last = layer.colours.length - 1, width = layer.high - layer.low;
        const at = (value) => Math.round(Math.min(Math.max((value - layer.low) / width, 0), 1) * last);
        this.fill = layer.values.map((value) => (value === null ? UNKNOWN : layer.colours[at(value)]));
      } else {
        this.fill = layer.values.map((code) => (code < 0 ? null : layer.colours[code]));
      }
      this.legend(layer);
      this.root.dataset.layer = this.layer;
      this.draw();
    }

    callColour(name) {
      return { "not called": "#A9C3DA", abnormal: "#D55E00" }[name];
    }

    legend(layer) {
      const box = this.root.querySelector(".legend");
      box.textContent = "";
      this.root.querySelector(".about").textContent = layer ? layer.about : "";
      if (!layer) return;
      if (layer.kind === "number") {
        const ramp = box.appendChild(document.createElement("div"));
        ramp.className = "ramp";
        ramp.style.background = `linear-gradient(to right, ${layer.colours.join(",")})`;
        const ends = box.appendChild(document.createElement("div"));
        ends.className = "ends";
        for (const text of [`${short(layer.low)} and less`, `${short(layer.high)} and more`]) {
          ends.appendChild(document.createElement("span")).textContent = text;
        }
        if (layer.low < 0 && layer.high > 0) {
          const zero = ramp.appendChild(document.createElement("span"));
          zero.style.left = `${(-100 * layer.low) / (layer.high - layer.low)}%`;
          zero.title = "0";
        }
        return;
      }
      const called = this.layer === "call";
      const names = called ? ["abnormal", "not called"] : layer.names;
      const counts = names.map((name, code) => called
        ? this.data.score.filter((s, i) => s !== null && this.isCalled(i) === (name === "abnormal")).length
        : layer.values.filter((value) => value === code).length);
      const list = box.appendChild(document.createElement("ul"));
      names.forEach((name, code) => {
        const item = list.appendChild(document.createElement("li"));
        item.appendChild(document.createElement("i")).style.background = called ? this.callColour(name) : layer.colours[code];
        item.appendChild(document.createTextNode(`${name} (${counts[code]})`));
      });
    }

    count() {
      const { score, posterior } = this.data;
      let n = 0, wrong = 0, found = 0, all = 0, known = true;
      score.forEach((value, i) => {
        if (value === null) return;
        const called = this.isCalled(i);
        n += called;
        if (posterior[i] === null) known = false;
        all += posterior[i] || 0;
        if (called) {
          wrong += 1 - (posterior[i] || 0);
          found += posterior[i] || 0;
        }
      });
      const shown = this.root.querySelector(".count");
      shown.textContent = n;
      shown.dataset.called = n;
      const said = this.root.querySelector(".expected");
      said.textContent = !known || this.scores.length < 30 ? "" : n
        ? `Expected: ${share(wrong / n)} of them false, ${share(all ? 1 - found / all : 0)} of the abnormal spots missed.`
        : "";
      const level = this.level === null ? "the level of the run" : short(this.level);
      this.root.querySelector(".level-value").textContent = level;
      this.slider.setAttribute("aria-valuetext", `${level}: ${n} spots called`);
    }

    // ---- what the reader does

    controls() {
      const on = (selector, event, run) =>
        this.root.querySelectorAll(selector).forEach((element) => element.addEventListener(event, () => run(element)));
      this.slider = this.root.querySelector(".level");
      const low = this.scores[0] ?? 0, high = this.scores[this.scores.length - 1] ?? 1;
      const margin = (high - low) / 100 || 1;
      this.slider.min = (low - margin).toFixed(3);
      this.slider.max = (high + margin).toFixed(3);
      this.slider.step = ((high - low) / 400 || 0.01).toFixed(4);
      this.restLevel();
      on(".level", "input", () => this.setLevel(Number(this.slider.value)));
      on(".as-scored", "click", () => this.setLevel(null));
      on("input[type=radio]", "change", (input) => {
        this.layer = input.value;
        this.colour();
      });
      on("[data-show]", "change", (input) => {
        this.show[input.dataset.show] = input.checked;
        if (input.dataset.show === "picture") this.viewer.world.getItemAt(0)?.setOpacity(input.checked ? 1 : 0);
        this.draw();
      });
      on("[data-opacity]", "input", (input) => {
        this.opacity = Number(input.value);
        this.draw();
      });
      on("[data-zoom]", "click", (button) => {
        const view = this.viewer.viewport, how = button.dataset.zoom;
        if (how === "home") view.goHome();
        else view.zoomBy(how === "in" ? 1.5 : 1 / 1.5).applyConstraints();
      });
      on("[data-region]", "click", (button) => this.region(Number(button.dataset.region)));
      on("[data-spot]", "click", (button) => this.spot(Number(button.dataset.spot)));
    }

    restLevel() {
      const called = this.data.score.filter((value, i) => value !== null && this.data.called[i]);
      const top = this.scores[this.scores.length - 1] ?? 1;
      this.slider.value = called.length ? Math.min(...called) : top;
    }

    setLevel(level) {
      this.level = level;
      if (level === null) this.restLevel();
      this.count();
      if (this.layer === "call") this.colour();
    }

    zoomTo(left, top, width, height) {
      const item = this.viewer.world.getItemAt(0);
      if (!item) return;
      this.viewer.viewport.fitBoundsWithConstraints(item.imageToViewportRectangle(left, top, width, height));
      this.root.querySelector(".viewer").scrollIntoView({ block: "nearest" });
    }

    region(number) {
      this.chosen = number;
      const [left, top, width, height] = this.data.regions[number].box;
      this.zoomTo(left - 0.15 * width, top - 0.15 * height, 1.3 * width, 1.3 * height);
      this.root.querySelectorAll("table.regions tbody tr").forEach((row, i) => row.classList.toggle("chosen", i === number));
      this.draw();
    }

    spot(i) {
      const reach = 8 * this.data.radius;
      this.zoomTo(this.data.x[i] - reach, this.data.y[i] - reach, 2 * reach, 2 * reach);
      this.tell(i);
    }

    nearest(position) {
      const at = this.place();
      if (!at) return -1;
      const px = (position.x - at.x) / at.scale, py = (position.y - at.y) / at.scale;
      let best = -1, least = (1.6 * this.data.radius) ** 2;
      this.data.x.forEach((x, i) => {
        const far = (x - px) ** 2 + (this.data.y[i] - py) ** 2;
        if (far < least) [best, least] = [i, far];
      });
      return best;
    }

    tell(i) {
      if (i < 0 || i === this.marked) return;
      this.marked = i;
      const { spots, score, region, layers } = this.data;
      const said = [`Spot ${spots[i] ?? i + 1}`];
      said.push(score[i] === null ? "could not be scored" : `score ${score[i].toFixed(2)}`);
      if (score[i] !== null) said.push(this.isCalled(i) ? "called" : "not called");
      if (region[i]) said.push(`region ${region[i]}`);
      for (const [key, layer] of Object.entries(layers)) {
        if (key === "score" || key === "call") continue;
        const value = layer.values[i];
        if (layer.kind === "number" ? value !== null : value >= 0) {
          said.push(`${layer.label}: ${layer.kind === "number" ? value.toFixed(2) : layer.names[value]}`);
        }
      }
      this.root.querySelector(".spot").textContent = said.join(", ");
      this.draw();
    }
  }

  // ---- slides, one at a time

  const roots = [...document.querySelectorAll(".slide")];
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const opened = new Map();
  const show = (number) => {
    roots.forEach((root, i) => { root.hidden = i !== number; });
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === number));
      tab.tabIndex = i === number ? 0 : -1;
    });
    // A picture that is not shown has no size to be opened in.
    if (!opened.has(number)) opened.set(number, new Slide(roots[number], DATA[number]));
  };
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => show(i));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = (i + step + tabs.length) % tabs.length;
      show(next);
      tabs[next].focus();
    });
  });
  show(0);
})();
