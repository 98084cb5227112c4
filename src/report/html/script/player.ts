/** Clips in step: the frames are tiles of the sheets that the page holds, drawn to a canvas each. */
export const PLAYER_SCRIPT = `
function startPlayer() {
  const choice = byId('video-choice');
  if (!choice) return;
  const [play, slider, text, speed, zoom] = ['play', 'frame', 'frame-text', 'speed', 'zoom'].map(byId);
  const videos = [...document.querySelectorAll('.video')];
  let video;
  let frame = 0;
  let timer;

  function choose(id) {
    video = videos.find((element) => element.id === id);
    for (const other of videos) other.classList.toggle('chosen', other === video);
    prepare(video);
    slider.max = Math.max(0, framesOf(video).length - 1);
    slider.disabled = play.disabled = framesOf(video).length < 2;
    show(Math.min(frame, Number(slider.max)));
    resize();
  }

  function framesOf(element) {
    return element.dataset.frames ? element.dataset.frames.split(' ').map(Number) : [];
  }

  function prepare(element) {
    if (element.classList.contains('drawn') || !element.dataset.frames) return;
    for (const sheet of element.querySelectorAll('.sheet')) {
      const canvas = document.createElement('canvas');
      canvas.width = Number(element.dataset.width);
      canvas.height = Number(element.dataset.height);
      canvas.setAttribute('role', 'img');
      sheet.after(canvas);
      // What is not shown would never be loaded.
      sheet.loading = 'eager';
      sheet.decode().then(() => element === video && draw(element), () => {});
    }
    const stages = [...element.querySelectorAll('.stage')];
    for (const stage of stages) {
      stage.addEventListener('scroll', () => {
        for (const other of stages) {
          if (other.scrollLeft !== stage.scrollLeft) other.scrollLeft = stage.scrollLeft;
          if (other.scrollTop !== stage.scrollTop) other.scrollTop = stage.scrollTop;
        }
      });
    }
    element.classList.add('drawn');
  }

  function draw(element) {
    const { columns, width, height } = element.dataset;
    const [x, y] = [frame % columns, Math.floor(frame / columns)];
    for (const sheet of element.querySelectorAll('.sheet')) {
      const canvas = sheet.nextElementSibling;
      canvas.getContext('2d').drawImage(sheet, x * width, y * height, width, height, 0, 0, width, height);
      canvas.setAttribute('aria-label', sheet.parentElement.getAttribute('aria-label') + ', frame ' + (frame + 1));
    }
  }

  function show(next) {
    const frames = framesOf(video);
    if (frames.length === 0) {
      text.textContent = '';
      return;
    }
    frame = (next + frames.length) % frames.length;
    draw(video);
    slider.value = frame;
    const at = frames[frame];
    const last = frames[frames.length - 1];
    const psnr = video.dataset.psnr.split('|')[at];
    text.textContent = 'frame ' + (at + 1) + ' of ' + (last + 1) + (psnr ? ', PSNR ' + psnr : '');
    slider.setAttribute('aria-valuetext', text.textContent);
    const cursor = video.querySelector('.cursor');
    if (!cursor) return;
    const { from, to, frames: count } = cursor.dataset;
    const place = Number(from) + (at / Math.max(1, count - 1)) * (to - from);
    cursor.setAttribute('x1', place);
    cursor.setAttribute('x2', place);
  }

  function resize() {
    const times = Number(zoom.value);
    for (const canvas of video.querySelectorAll('canvas')) {
      canvas.classList.toggle('fit', times === 0);
      canvas.classList.toggle('sharp', times > 1 || Number(video.dataset.scale) > 1);
      canvas.style.width = times === 0 ? '' : canvas.width * times + 'px';
    }
  }

  function run(on) {
    clearInterval(timer);
    timer = on ? setInterval(() => show(frame + 1), 1000 / Number(speed.value)) : undefined;
    play.setAttribute('aria-pressed', String(on));
    play.firstElementChild.textContent = on ? '❚❚' : '▶';
    play.querySelector('.word').textContent = on ? 'Pause' : 'Play';
  }

  function step(by) {
    run(false);
    show(frame + by);
  }

  choice.addEventListener('change', () => choose(choice.value));
  for (const link of document.querySelectorAll('.to-video')) {
    link.addEventListener('click', () => {
      choice.value = link.hash.slice(1);
      choose(choice.value);
    });
  }
  play.addEventListener('click', () => run(timer === undefined));
  byId('back').addEventListener('click', () => step(-1));
  byId('forth').addEventListener('click', () => step(1));
  slider.addEventListener('input', () => {
    run(false);
    show(Number(slider.value));
  });
  speed.addEventListener('change', () => timer !== undefined && run(true));
  zoom.addEventListener('change', resize);
  byId('videos').addEventListener('keydown', (event) => {
    // Fields have arrow keys of their own, and so has a table that scrolls.
    if (event.target.closest('select, input, button, .scroll, a, summary') || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      ArrowLeft: () => step(-1),
      ArrowRight: () => step(1),
      Home: () => step(-frame),
      End: () => step(Number(slider.max) - frame),
      ' ': () => run(timer === undefined),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  document.addEventListener('visibilitychange', () => document.hidden && run(false));
  choose(choice.value);
}
`;
