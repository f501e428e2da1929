"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  document.documentElement.classList.add("scripted");

  // Four digits, as Python's "%.4g" writes them: the page's other numbers are made so.
  function value(number) {
    if (typeof number === "string") return number;
    if (number === 0) return "0";
    const [mantissa, power] = number.toExponential(3).split("e");
    const exponent = Number(power);
    const trimmed = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
    if (exponent >= -4 && exponent < 4) return trimmed(number.toFixed(3 - exponent));
    return `${trimmed(mantissa)}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }

  const at = (path) => path.split(".").reduce((found, key) => found[key], data);

  function show(cell, key) {
    let span = find("[data-key]", cell);
    if (!span) {
      span = document.createElement("span");
      cell.replaceChildren(span);
    }
    span.dataset.key = key;
    span.dataset.form = "value";
    span.textContent = value(at(key));
  }

  function steps(element, move) {
    const keys = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    element.addEventListener("keydown", (event) => {
      if (keys[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        move(...keys[event.key]);
      }
    });
  }

  // The window ------------------------------------------------------------------------------------------------------

  function windows() {
    const part = data.region;
    const slider = find("#window-at"), channel = find("#window-channel");
    const down = part.engine.length, across = part.engine[0].length;
    const kh = part.kernel.length, kw = part.kernel[0].length;
    const cells = (id) => all("td", document.getElementById(id));
    const patch = cells("window-patch"), kernel = cells("window-kernel"), sums = cells("window-sums");
    const rows = all("#im2col tr");
    let shownChannel = String(part.channel);

    function update() {
      const position = Number(slider.value), c = channel.value;
      const oh = Math.floor(position / across), ow = position % across;
      const row = (i) => oh * part.stride[0] + i * part.dilation[0];
      const column = (j) => ow * part.stride[1] + j * part.dilation[1];
      for (let i = 0; i < kh; i++) {
        for (let j = 0; j < kw; j++) {
          const tap = i * kw + j;
          show(patch[tap], `region.x.${row(i)}.${column(j)}.${c}`);
          const y = part.first[0] + row(i), x = part.first[1] + column(j);
          patch[tap].classList.toggle("padded", y < 0 || x < 0 || y >= part.size[0] || x >= part.size[1]);
          show(kernel[tap], `region.kernel.${i}.${j}.${c}`);
          show(sums[tap], `region.tap_sums.${oh}.${ow}.${i}.${j}`);
        }
      }
      show(find("#window-sum"), `region.totals.${oh}.${ow}`);
      show(find("#window-engine"), `region.engine.${oh}.${ow}`);
      find("#window-where").textContent = `row ${oh}, column ${ow}`;
      matrix(position, c, row(Math.floor(kh / 2)), column(Math.floor(kw / 2)));
    }

    function matrix(position, c, middleRow, middleColumn) {
      const middle = `region.x.${middleRow}.${middleColumn}.${c}`;
      rows.forEach((line, number) => {
        line.classList.toggle("lit", number === position);
        all("td", line).forEach((cell, tap) => {
          const i = Math.floor(tap / kw), j = tap % kw;
          const y = Math.floor(number / across) * part.stride[0] + i * part.dilation[0];
          const x = (number % across) * part.stride[1] + j * part.dilation[1];
          const key = `region.x.${y}.${x}.${c}`;
          if (c !== shownChannel) show(cell, key);
          cell.classList.toggle("same", key === middle);
        });
      });
      shownChannel = c;
      const box = find("#im2col").parentElement;
      if (rows[position]) box.scrollTop = rows[position].offsetTop - box.clientHeight / 2;
    }

    steps(slider, (dy, dx) => {
      const position = Number(slider.value);
      const oh = Math.min(Math.max(Math.floor(position / across) + dy, 0), down - 1);
      const ow = Math.min(Math.max((position % across) + dx, 0), across - 1);
      slider.value = oh * across + ow;
      update();
    });
    slider.addEventListener("input", update);
    channel.addEventListener("change", update);
    update();
  }

  // Maps, and the pixels behind a cell --------------------------------------------------------------------------------

  function maps() {
    const box = find("#photo .box"), mark = find("#cell .cellbox"), frame = find("#cell"), words = find("#cell-words");
    const [height, width] = data.maps.size;
    let sheet = null, channel = null, row = 0, column = 0;

    function place(element, top, bottom, left, right, rows, columns) {
      element.hidden = false;
      Object.assign(element.style, {
        top: `${(100 * top) / rows}%`, height: `${(100 * (bottom - top)) / rows}%`,
        left: `${(100 * left) / columns}%`, width: `${(100 * (right - left)) / columns}%`,
      });
    }

    function seen([first, last, step], cell, size) {
      return [Math.max(first + cell * step, 0), Math.min(last + cell * step + 1, size)];
    }

    function update() {
      if (!sheet) return;
      const thumbnail = channel.thumbnail, down = thumbnail.length, across = thumbnail[0].length;
      row = Math.min(Math.max(row, 0), down - 1);
      column = Math.min(Math.max(column, 0), across - 1);
      place(mark, row, row + 1, column, column + 1, down, across);
      const name = `${sheet.feature || sheet.layer}, channel ${channel.channel}, cell ${row}, ${column}: ${value(thumbnail[row][column])}`;
      if (!sheet.rows) {
        box.hidden = true;
        words.textContent = `${name}; it sees the whole picture`;
        return;
      }
      // a cell of the thumbnail is the mean of a block of the map's: the box of all of these
      const [blockRows, blockColumns] = sheet.block;
      const last = (first, block, size) => Math.min(first * block + block, size) - 1;
      const [top] = seen(sheet.rows, row * blockRows, height);
      const [, bottom] = seen(sheet.rows, last(row, blockRows, sheet.shape[0]), height);
      const [left] = seen(sheet.columns, column * blockColumns, width);
      const [, right] = seen(sheet.columns, last(column, blockColumns, sheet.shape[1]), width);
      place(box, top, bottom, left, right, height, width);
      words.textContent = `${name}; it sees rows ${top} to ${bottom - 1}, columns ${left} to ${right - 1}`;
    }

    function choose(button) {
      all(".sheet button").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      sheet = data.maps.sheets[button.dataset.sheet];
      channel = sheet.channels[button.dataset.channel];
      find("img", frame).src = find("img", button).src;
      row = Math.floor(channel.thumbnail.length / 2);
      column = Math.floor(channel.thumbnail[0].length / 2);
      update();
    }

    all(".sheet button").forEach((button) => button.addEventListener("click", () => choose(button)));
    frame.addEventListener("click", (event) => {
      if (!sheet) return;
      const area = find("img", frame).getBoundingClientRect();
      row = Math.floor(((event.clientY - area.top) / area.height) * channel.thumbnail.length);
      column = Math.floor(((event.clientX - area.left) / area.width) * channel.thumbnail[0].length);
      update();
    });
    steps(frame, (dy, dx) => {
      row += dy;
      column += dx;
      update();
    });
    const first = find(".sheet button");
    if (first) choose(first);
  }

  // Recordings --------------------------------------------------------------------------------------------------------

  function recording(element) {
    const found = data.watch[element.dataset.watch];
    const heats = found.arrays.map((array) => array.heat.flat(Infinity));
    const most = Math.max(...heats.flat(), 1);
    const frames = [], pitch = 12; // pixels from cell to cell
    const grids = all(".cells", element).map((grid, number) => {
      const cells = heats[number].map((count) => {
        const cell = document.createElement("i");
        cell.style.setProperty("--h", `${Math.round(6 + 64 * Math.sqrt(count / most))}%`);
        return cell;
      });
      frames[number] = document.createElement("b");
      grid.replaceChildren(...cells, frames[number]);
      return cells;
    });
    const seek = find(".seek", element), play = find(".play", element), where = find(".where", element), words = find(".piece", element);
    const trail = 24; // accesses that stay marked
    let marked = [], timer = null;

    function update() {
      marked.forEach((cell) => cell.classList.remove("r", "w"));
      const now = Number(seek.value);
      marked = [];
      for (let index = Math.max(0, now - trail + 1); index <= now; index++) {
        const [array, place, written] = found.accesses[index];
        const cell = grids[array][place];
        cell.classList.remove("r", "w");
        cell.classList.add(written ? "w" : "r");
        marked.push(cell);
      }
      const [array, place, written] = found.accesses[now];
      where.textContent = `${written ? "writes" : "reads"} ${found.arrays[array].name}, number ${place}`;
      outline(now);
    }

    function outline(now) {
      const at = pieceAt(now);
      words.textContent = at < 0 ? "none yet" : `number ${at + 1}`;
      frames.forEach((frame, number) => {
        const box = at < 0 ? null : found.pieces[at].boxes[number];
        frame.hidden = !box;
        if (!box) return;
        const [top, bottom, left, right] = box.map((edge) => edge * pitch);
        Object.assign(frame.style, {
          top: `${top - 2}px`, left: `${left - 2}px`, height: `${bottom - top + 3}px`, width: `${right - left + 3}px`,
        });
      });
    }

    function pieceAt(now) {
      return found.pieces.findLastIndex((piece) => piece.first <= now);
    }

    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
    }

    function step(by = 1) {
      if (Number(seek.value) >= Number(seek.max)) return stop();
      seek.value = Number(seek.value) + by;
      update();
    }

    play.addEventListener("click", () => {
      if (timer) return stop();
      if (still.matches) return step(); // who wants less motion steps
      if (seek.value === seek.max) seek.value = 0;
      timer = setInterval(step, 30, Math.ceil(found.accesses.length / 2000)); // a minute at most
      play.textContent = "Pause";
    });
    still.addEventListener("change", stop);
    find(".step", element).addEventListener("click", () => {
      stop();
      step();
    });
    find(".next", element).addEventListener("click", () => {
      stop();
      const next = found.pieces[pieceAt(Number(seek.value)) + 1];
      seek.value = next ? next.first : seek.max;
      update();
    });
    seek.addEventListener("input", update);
    update();
  }

  // Which topic is in sight -------------------------------------------------------------------------------------------

  function contents() {
    const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
    const watcher = new IntersectionObserver(
      (entries) => entries.forEach((entry) => {
        if (!entry.isIntersecting) return;
        links.forEach((link) => link.removeAttribute("aria-current"));
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }),
      { rootMargin: "-20% 0px -70% 0px" },
    );
    all("main section").forEach((section) => watcher.observe(section));
  }

  windows();
  maps();
  all(".recording").forEach(recording);
  contents();
})();
