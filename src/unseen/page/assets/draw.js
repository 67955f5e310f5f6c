// Drawing: colours of the theme, scales, axes, points. A canvas in two dimensions shows 100,000 points in a few milliseconds anywhere,
// also where there is no graphics card.

const NS = 'http://www.w3.org/2000/svg'
const colour = name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('aria-') || name === 'role' || name.startsWith('data-')) made.setAttribute(name, value)
    else made[name] = value
  }
  made.append(...children)
  return made
}

function vector(tag, attributes = {}, ...children) {
  const made = document.createElementNS(NS, tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  made.append(...children)
  return made
}

/** A scale of values to 0..1. kind: linear, or log for log(1 + value) from 0 on. */
function scale(low, high, kind = 'linear') {
  if (!(high > low)) high = low + 1
  const bend = kind === 'log' ? v => Math.log1p(Math.max(v, 0)) : v => v
  const back = kind === 'log' ? Math.expm1 : v => v
  const a = bend(low), b = bend(high)
  return {low, high, to: v => (bend(v) - a) / (b - a), from: t => back(a + t * (b - a)), ticks: kind === 'log' ? logTicks(low, high) : ticks(low, high)}
}

function ticks(low, high, wanted = 5) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough))
  const step = power * [1, 2, 5, 10].find(k => k * power >= rough)
  const found = []
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(+(k * step).toPrecision(12))
  return found
}

function logTicks(low, high) {
  return [0, 0.1, 0.3, 1, 3, 10, 30, 100].filter(v => v >= low && v <= high)
}

const short = value => value >= 1e6 ? value / 1e6 + 'M' : value >= 1e4 ? value / 1e3 + 'k' : String(value)

function extent(values) {
  let low = Infinity, high = -Infinity
  for (const v of values) { if (v < low) low = v; if (v > high) high = v }
  return low > high ? [0, 1] : [low, high]
}

/** Size a canvas to its box and return its context in CSS pixels, with the plot area inside the axes. */
function prepare(canvas, room = {left: 46, top: 8, right: 8, bottom: 36}) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio)
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio)
  const context = canvas.getContext('2d', {willReadFrequently: true})
  context.setTransform(ratio, 0, 0, ratio, 0, 0)
  context.clearRect(0, 0, width, height)
  return {context, ratio, area: {left: room.left, top: room.top, right: width - room.right, bottom: height - room.bottom}}
}

function axes({context, area}, x, y, xName, yName) {
  context.font = '11px system-ui, sans-serif'
  context.fillStyle = colour('muted')
  context.strokeStyle = colour('line')
  context.lineWidth = 1
  context.textAlign = 'center'
  context.textBaseline = 'top'
  for (const [tick, at] of spread(x, area.left, area.right, 34)) context.fillText(short(tick), at, area.bottom + 5)
  context.fillText(xName, (area.left + area.right) / 2, area.bottom + 20)
  context.textAlign = 'right'
  context.textBaseline = 'middle'
  for (const [tick, at] of spread(y, area.bottom, area.top, 16)) {
    context.fillText(short(tick), area.left - 6, at)
    context.beginPath()
    context.moveTo(area.left, Math.round(at) + 0.5)
    context.lineTo(area.right, Math.round(at) + 0.5)
    context.stroke()
  }
  context.save()
  context.translate(10, (area.top + area.bottom) / 2)
  context.rotate(-Math.PI / 2)
  context.textAlign = 'center'
  context.fillText(yName, 0, 0)
  context.restore()
}

/** Ticks and their places, those left out that would touch the one before. */
function spread(scale, start, end, apart) {
  const found = []
  for (const tick of scale.ticks) {
    const at = place(scale, tick, start, end)
    if (!found.length || Math.abs(at - found.at(-1)[1]) >= apart) found.push([tick, at])
  }
  return found
}

const place = (scale, value, start, end) => start + scale.to(value) * (end - start)

/** [r, g, b] of a CSS colour. */
function channels(css) {
  const context = channels.context ??= element('canvas', {width: 1, height: 1}).getContext('2d', {willReadFrequently: true})
  context.fillStyle = css
  context.fillRect(0, 0, 1, 1)
  return context.getImageData(0, 0, 1, 1).data
}

const packed = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0

/** 64 steps between colours, packed for the pixels of an ImageData. */
function ramp(...stops) {
  const parts = stops.map(channels)
  return Uint32Array.from({length: 64}, (_, k) => {
    const t = k / 63 * (parts.length - 1), i = Math.min(Math.floor(t), parts.length - 2)
    return packed([0, 1, 2].map(c => Math.round(parts[i][c] + (t - i) * (parts[i + 1][c] - parts[i][c]))))
  })
}

/** Draw points: those that do not pass in a pale colour below those that do. shade(i): packed colour. Last drawn, most memorized. */
function points({context, ratio, area}, xs, ys, mask, shade, size) {
  const left = Math.round(area.left * ratio), top = Math.round(area.top * ratio)
  const width = Math.round((area.right - area.left) * ratio), height = Math.round((area.bottom - area.top) * ratio)
  const image = context.getImageData(left, top, width, height), pixels = new Uint32Array(image.data.buffer)
  const pale = packed(channels(colour('pale'))), side = Math.max(1, Math.round(size * ratio)), half = side >> 1
  for (const passing of [0, 1]) {
    for (let i = xs.length - 1; i >= 0; i--) {
      if (mask[i] !== passing) continue
      const x0 = Math.round(xs[i] * width) - half, y0 = Math.round((1 - ys[i]) * height) - half
      if (!(x0 + side > 0 && y0 + side > 0)) continue
      const value = passing ? shade(i) : pale
      for (let y = Math.max(0, y0); y < Math.min(height, y0 + side); y++) {
        for (let x = Math.max(0, x0); x < Math.min(width, x0 + side); x++) pixels[y * width + x] = value
      }
    }
  }
  context.putImageData(image, left, top)
}
