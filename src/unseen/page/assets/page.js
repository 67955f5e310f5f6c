// The page: filters, selections, decisions, and when to draw what.

const PAGE = 24
const by = id => document.getElementById(id)

async function start() {
  const data = await unpack(by('data').textContent)
  const store = `unseen:${data.run}`, decisions = new Map(read(store))
  const mask = new Uint8Array(data.ids.length)
  let shown = new Uint32Array(0), limit = PAGE

  function refresh(cardsToo = true) {
    filtered(data, mask)
    scatter('map', data, mask)
    scatter('losses', data, mask)
    histogram(data, mask)
    perClass(data, mask, c => set({class: state.class === c ? null : c}))
    confusion(data, mask, (g, s) => set({pair: state.pair && state.pair[0] === g && state.pair[1] === s ? null : [g, s]}))
    if (cardsToo) cards()
  }

  function cards() {
    shown = passing(listOrder(data, decisions), mask)
    const list = by('cards'), some = Array.from(shown.subarray(0, limit))
    list.replaceChildren(...some.map(i => card(data, i, decisions.get(data.ids[i]), decide)))
    if (!some.length) list.append(element('li', {className: 'empty'}, 'No example passes these filters.'))
    by('more').hidden = shown.length <= limit
    by('about-list').textContent = [ABOUT[state.list], data.qualities[state.list]].filter(Boolean).join(' ')
    by('count').textContent = `${shown.length.toLocaleString('en')} of ${data.ids.length.toLocaleString('en')}`
    progress()
  }

  function progress() {
    const counts = {keep: 0, drop: 0, relabel: 0}
    for (const {decision} of decisions.values()) counts[decision]++
    const whole = decisions.size
    by('progress').textContent = whole ? `${whole.toLocaleString('en')} decided: ${counts.keep} keep, ${counts.drop} drop, ${counts.relabel} relabel.` : 'Nothing decided yet.'
    by('download').disabled = !whole
    by('download').textContent = whole ? `Download decisions (${whole.toLocaleString('en')})` : 'Download decisions'
    for (const button of by('lists').children) button.querySelector('span').textContent = size(button.dataset.list)
  }

  function size(list) {
    if (list === 'decided') return decisions.size.toLocaleString('en')
    if (!data['list_' + list]) return ''
    const [here, whole] = [data['list_' + list].length, data.sizes[list]].map(number => number.toLocaleString('en'))
    return here === whole ? here : `${here} of ${whole}`
  }

  function set(change) {
    if (state.only !== null) change = {only: null, ...change}
    Object.assign(state, change)
    limit = PAGE
    by('class').value = state.class ?? ''
    by('column').value = state.column
    for (const end of ['low', 'high']) if (document.activeElement !== by(end)) by(end).value = state[end] ?? ''
    if (document.activeElement !== by('search')) by('search').value = state.search
    for (const button of by('lists').children) button.setAttribute('aria-pressed', String(button.dataset.list === state.list))
    if (Object.keys(change).join() === 'list') cards()
    else refresh()
  }

  function decide(i, decision, label) {
    const id = data.ids[i]
    if (decision) decisions.set(id, {decision, label: decision === 'relabel' ? named(data, label ?? data.said_unseen[i]) : ''})
    else decisions.delete(id)
    write(store, [...decisions])
    const old = by('cards').querySelector(`[data-i="${i}"]`)
    if (old) {
      const fresh = card(data, i, decisions.get(id), decide), within = old.contains(document.activeElement)
      old.replaceWith(fresh)
      if (within) fresh.focus()
    }
    progress()
  }

  function keys(event) {
    const here = event.target.closest?.('.card')
    if (event.key === 'Escape') return set({selection: null, pair: null})
    if (!here || event.target.matches('select, input') || event.ctrlKey || event.metaKey || event.altKey) return
    const i = +here.dataset.i, all = [...by('cards').querySelectorAll('.card')], at = all.indexOf(here)
    const move = step => all[Math.min(all.length - 1, Math.max(0, at + step))].focus()
    const actions = {
      k: () => { decide(i, 'keep'); forward(at) }, d: () => { decide(i, 'drop'); forward(at) },
      r: () => { decide(i, 'relabel', data.said_unseen[i]); forward(at) }, u: () => decide(i, null),
      ArrowRight: () => move(1), ArrowLeft: () => move(-1),
    }
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key]
    if (!action) return
    event.preventDefault()
    action()
  }

  function forward(at) {
    if (at + 1 >= limit && at + 1 < shown.length) { limit += PAGE; cards() }
    by('cards').querySelectorAll('.card')[at + 1]?.focus()
  }

  function open(i) {
    set({list: 'memorized', class: null, low: null, high: null, selection: null, pair: null, search: '', only: i})
    by('cards').querySelector(`[data-i="${i}"]`)?.focus()
    by('examples').scrollIntoView()
  }

  function download() {
    const quoted = text => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
    const of = data.data ? [data.data] : [] // apply refuses other data
    const rows = [...decisions].map(([id, {decision, label}]) => [id, decision, label, ...of].map(quoted).join(','))
    const blob = new Blob([['id,decision,label' + (data.data ? ',data' : ''), ...rows].join('\n') + '\n'], {type: 'text/csv'})
    const link = element('a', {href: URL.createObjectURL(blob), download: 'decisions.csv'})
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 1000)
  }

  fields(data, set)
  legends(data)
  pointers(data, mask, set, open)
  by('download').onclick = download
  by('more').onclick = () => { limit += PAGE; cards() }
  by('theme').onclick = () => {
    const dark = getComputedStyle(document.documentElement).getPropertyValue('--dark').trim() === '1'
    document.documentElement.dataset.theme = dark ? 'light' : 'dark'
    refresh(false)
  }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => refresh(false))
  addEventListener('resize', () => requestAnimationFrame(() => refresh(false)))
  document.addEventListener('keydown', keys)
  lines('loss-curves', data, 'loss', false)
  lines('accuracy-curves', data, 'correct', true)
  ends(data, open)
  set({})
  document.documentElement.dataset.ready = 'yes'
}

/** Lists, classes, range, search and clear. */
function fields(data, set) {
  for (const [list, name] of Object.entries(LISTS)) {
    by('lists').append(element('button', {'data-list': list, onclick: () => set({list})}, name + ' ', element('span')))
  }
  data.classes.forEach((name, c) => by('class').append(element('option', {value: c}, name)))
  for (const [column, name] of Object.entries(COLUMNS)) by('column').append(element('option', {value: column}, name))
  by('class').onchange = event => set({class: event.target.value === '' ? null : +event.target.value})
  by('column').onchange = event => set({column: event.target.value, low: null, high: null})
  for (const end of ['low', 'high']) by(end).oninput = event => set({[end]: event.target.value === '' ? null : +event.target.value})
  let wait
  by('search').oninput = event => { clearTimeout(wait); wait = setTimeout(() => set({search: event.target.value}), 60) }
  by('clear').onclick = () => set({class: null, low: null, high: null, search: '', selection: null, pair: null})
}

function ends(data, open) {
  const names = {memorized: 'Most memorized', easy: 'Easiest', suspects: 'Probably wrong', rare: 'Rare but right'}
  const show = end => {
    for (const button of by('ends').children) button.setAttribute('aria-pressed', String(button.dataset.end === end))
    byClass(data, end, open)
  }
  for (const [end, name] of Object.entries(names)) by('ends').append(element('button', {'data-end': end, onclick: () => show(end)}, name))
  show('memorized')
}

function legends(data) {
  const key = (side, text) => element('span', {className: side}, text)
  const truth = data.true ? ['real label', 'changed label'] : ['unseen side agrees', 'unseen side says another class']
  if (data.true) by('histogram-legend').append(key('seen', truth[0]), key('unseen', truth[1]))
  by('losses-legend').append(key('seen', truth[0]), key('unseen', truth[1]))
  by('map-legend').append(key('unseen', 'never right'), key('middle', 'at half of the epochs'), key('seen', 'always right'))
  const told = {histogram: 'Histogram of memorization', map: 'Scatter of variability against confidence', losses: 'Scatter of seen against unseen loss'}
  for (const [id, text] of Object.entries(told)) by(id).setAttribute('aria-label', `${text} of ${data.ids.length} examples. The filter fields select ranges of the same numbers.`)
}

/** Drag to select, click to open, hover to see the id. */
function pointers(data, mask, set, open) {
  for (const id of ['map', 'losses', 'histogram']) {
    const canvas = by(id)
    let from = null
    const spot = event => { const r = canvas.getBoundingClientRect(); return [event.clientX - r.left, event.clientY - r.top] }
    canvas.onpointerdown = event => { if (event.pointerType !== 'touch') { from = spot(event); canvas.setPointerCapture(event.pointerId) } }
    canvas.onpointermove = event => {
      if (from) band(canvas, from, spot(event), id)
      else if (id !== 'histogram') hover(data, mask, id, spot(event), event)
    }
    canvas.onpointerleave = () => { by('tip').hidden = true }
    canvas.onpointerup = event => {
      const to = spot(event), start = from ?? to
      from = null
      by('band')?.remove()
      if (Math.hypot(to[0] - start[0], to[1] - start[1]) > 5) return set({selection: selected(id, start, to)})
      const near = id === 'histogram' ? -1 : nearest(mask, frames[id], to)
      if (near >= 0) open(near)
      else set({selection: null})
    }
  }
}

function band(canvas, from, to, id) {
  const {area} = frames[id], host = canvas.parentElement
  const made = by('band') ?? host.appendChild(element('div', {id: 'band'}))
  const [top, bottom] = id === 'histogram' ? [area.top, area.bottom] : [Math.min(from[1], to[1]), Math.max(from[1], to[1])]
  Object.assign(made.style, {left: canvas.offsetLeft + Math.min(from[0], to[0]) + 'px', top: canvas.offsetTop + top + 'px', width: Math.abs(to[0] - from[0]) + 'px', height: bottom - top + 'px'})
}

function selected(id, from, to) {
  const {x, y, area, chart} = frames[id]
  const xs = [from[0], to[0]].map(v => x.from((v - area.left) / (area.right - area.left))).sort((a, b) => a - b)
  const ys = [from[1], to[1]].map(v => y.from((area.bottom - v) / (area.bottom - area.top))).sort((a, b) => a - b)
  return {chart: id, x: chart.x, y: chart.y, x0: xs[0], x1: xs[1], y0: ys[0], y1: ys[1]}
}

/** The passing point nearest to a spot, within 8 pixels; -1 where there is none. */
function nearest(mask, {xs, ys, area}, [px, py]) {
  let best = -1, least = 64
  const width = area.right - area.left, height = area.bottom - area.top
  for (let i = 0; i < xs.length; i++) {
    if (!mask[i]) continue
    const dx = area.left + xs[i] * width - px, dy = area.bottom - ys[i] * height - py, d = dx * dx + dy * dy
    if (d < least) { least = d; best = i }
  }
  return best
}

function hover(data, mask, id, spot, event) {
  const i = nearest(mask, frames[id], spot), tip = by('tip')
  tip.hidden = i < 0
  if (i < 0) return
  const shown = data.media?.kind === 'images' && data.picture[i] ? [thumbnail(data, data.picture[i] - 1, data.ids[i], 48)] : []
  tip.replaceChildren(...shown, element('div', {}, element('b', {}, data.ids[i]), element('br'), `label ${named(data, data.given[i])}, unseen says ${named(data, data.said_unseen[i])}`, element('br'), `memorization ${data.memorization[i].toFixed(2)}`))
  tip.style.left = Math.min(event.clientX + 14, innerWidth - 240) + 'px'
  tip.style.top = Math.min(event.clientY + 14, innerHeight - 90) + 'px'
}

function read(store) {
  try { return JSON.parse(localStorage.getItem(store)) ?? [] } catch { return [] }
}

function write(store, value) {
  try { localStorage.setItem(store, JSON.stringify(value)) } catch { by('progress').textContent = 'This browser keeps nothing: download before you close the page.' }
}

start().catch(error => by('charts').prepend(element('p', {className: 'notice', role: 'alert'}, `This browser cannot show the charts and examples (${error.message}). A current Firefox, Chrome or Safari can.`)))
