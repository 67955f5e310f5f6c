// What an example is: its picture, its text, or its row; and how its loss fell.

const pictures = new Map()

/** Where a thumbnail is: its part, and its number in it. */
function partOf(about, number) {
  const part = about.parts.findLast(part => part.start <= number)
  return [part, number - part.start]
}

const isPicture = (data, i) => data.media?.kind === 'images' && data.picture[i] > 0

/** Draw a thumbnail on a canvas once its sheet is decoded. number: from 0. */
function thumbnail(data, number, text) {
  const about = data.media, [part, at] = partOf(about, number), width = part.sizes[2 * at], height = part.sizes[2 * at + 1]
  const canvas = element('canvas', {className: `thumb${about.ink ? ' ink' : ''}${Math.max(width, height) < 80 ? ' coarse' : ''}`, width, height, role: 'img', 'aria-label': text, title: text})
  const source = part.sheets[Math.floor(at / part.per)], place = at % part.per
  if (!pictures.has(source)) {
    const image = new Image()
    image.src = source
    pictures.set(source, image.decode().then(() => image))
  }
  pictures.get(source).then(image => {
    const x = place % part.columns * part.stride, y = Math.floor(place / part.columns) * part.stride
    canvas.getContext('2d').drawImage(image, x, y, width, height, 0, 0, width, height)
    canvas.dataset.drawn = 'yes'
  })
  return canvas
}

/** A text with what is searched for marked in it. */
function marked(text) {
  const wanted = state.search.trim(), low = text.toLowerCase(), parts = []
  if (!wanted) return [text]
  let from = 0
  for (let at; (at = low.indexOf(wanted.toLowerCase(), from)) >= 0; from = at + wanted.length) parts.push(text.slice(from, at), element('mark', {}, text.slice(at, at + wanted.length)))
  return [...parts, text.slice(from)]
}

const MARKS = {'-': ['low', 'lower than 99% of the rows'], '+': ['high', 'higher than 99% of the rows'], '~': ['seldom', 'fewer than 1% of the rows have this']}

/** The picture, text or row of an example; number 0: the page does not hold it. whole: for the large view. */
function what(data, number, text, whole = false) {
  if (!data.media) return null
  if (!number) return element('div', {className: 'absent'}, 'not kept in this page')
  if (data.media.kind === 'images') return thumbnail(data, number - 1, text)
  const cells = data.media.rows[number - 1], marks = data.media.marks?.[number - 1] ?? ''
  const focus = {tabIndex: 0, role: 'region', 'aria-label': 'What the example is'}
  if (!data.media.names.length) return element('p', {className: whole ? 'text whole' : 'text', ...whole ? {} : focus}, ...marked(cells[0]))
  const order = cells.map((_, k) => k).sort((a, b) => (MARKS[marks[a]] ? 0 : 1) - (MARKS[marks[b]] ? 0 : 1))
  return element('dl', {className: whole ? 'row whole' : 'row', ...whole ? {} : focus}, ...order.map(k => {
    const [side, why] = MARKS[marks[k]] ?? []
    return element('div', {className: side ? 'unusual' : '', title: why ?? ''}, element('dt', {}, data.media.names[k]), element('dd', {}, ...side ? [element('b', {}, side), ' '] : [], ...marked(cells[k])))
  }))
}

/** The beginning of an example's text where it is one, else its id. */
function snippet(data, i) {
  const texts = data.media?.kind === 'rows' && !data.media.names.length && data.picture[i]
  return texts ? data.media.rows[data.picture[i] - 1][0].slice(0, 90) : data.ids[i]
}

/** Loss per epoch of both sides, as a small chart. axes: with numbers, for the large view. */
function curve(data, i, axes = false) {
  const {epochs, largest} = data.curves, width = axes ? 320 : 120, height = axes ? 120 : 36, left = axes ? 34 : 1, bottom = axes ? height - 20 : height - 1
  if (epochs.length < 2) return ''
  const x = epoch => left + (width - left - 4) * (epoch - epochs[0]) / (epochs.at(-1) - epochs[0]), y = share => bottom - (bottom - 6) * share
  const path = side => epochs.map((epoch, k) => `${k ? 'L' : 'M'}${x(epoch).toFixed(1)},${y(data.curves_of[(i * 2 + side) * epochs.length + k] / 255).toFixed(1)}`).join('')
  const loss = data.loss_unseen[i].toFixed(2), seen = data.loss_seen[i].toFixed(2)
  const art = vector('svg', {class: axes ? 'curve large' : 'curve', ...axes ? {} : {preserveAspectRatio: 'none'}, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `Loss over ${epochs.at(-1)} epochs; at the end unseen ${loss}, seen ${seen} nats`})
  if (axes) {
    for (const [tick] of spread(scale(0, largest, 'log'), bottom, 6, 14)) art.append(vector('line', {class: 'grid-line', x1: left, x2: width - 4, y1: y(Math.log1p(tick) / Math.log1p(largest)), y2: y(Math.log1p(tick) / Math.log1p(largest))}), label(left - 5, y(Math.log1p(tick) / Math.log1p(largest)) + 4, tick, 'end'))
    art.append(label(left, height - 4, `epoch ${epochs[0]}`, 'start'), label(width - 4, height - 4, epochs.at(-1), 'end'))
  }
  art.append(vector('path', {class: 'line seen-line', d: path(0)}), vector('path', {class: 'line unseen-line', d: path(1)}))
  return art
}

const curveLegend = () => element('p', {className: 'legend'}, element('span', {className: 'unseen'}, 'unseen loss'), element('span', {className: 'seen'}, 'seen loss'))
