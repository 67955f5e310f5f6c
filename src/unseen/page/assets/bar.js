// The controls that stay in view: lists, filters, sort, selection, progress; and the files.

/** Make the controls once. */
function wire(data, act) {
  const set = act.set
  for (const [list, name] of Object.entries(LISTS)) {
    if (!['memorized', 'easy', 'decided', 'disagreements'].includes(list) && !data['list_' + list]) continue
    by('lists').append(element('button', {'data-list': list, onclick: () => { set({list, sort: 'list'}); view('work') }}, name + ' ', element('span')))
  }
  for (const [chart, name] of Object.entries(CHARTS)) if (chart !== 'look' || data.look_x) by('charts').append(element('button', {'data-chart': chart, onclick: () => set({chart, region: null})}, name))
  for (const id of ['class', 'said']) {
    data.classes.forEach((name, c) => by(id).append(element('option', {value: c}, name)))
    by(id).onchange = event => set({[id]: event.target.value === '' ? null : +event.target.value})
  }
  for (const [column, [name]] of Object.entries(COLUMNS)) {
    by('column').append(element('option', {value: column}, name))
    by('sort').append(element('option', {value: column}, name))
  }
  for (const [shade, name] of Object.entries(SHADES)) by('shade').append(element('option', {value: shade}, shade === 'list' && data.true ? 'changed labels' : shade === 'list' ? 'agreement' : name))
  by('shade').onchange = event => set({shade: event.target.value})
  by('sort').onchange = event => set({sort: event.target.value})
  by('column').onchange = event => set({column: event.target.value, low: null, high: null})
  by('open').onchange = event => set({open: event.target.checked})
  for (const end of ['low', 'high']) by(end).oninput = event => set({[end]: event.target.value === '' ? null : +event.target.value})
  let wait
  by('search').oninput = event => { clearTimeout(wait); wait = setTimeout(() => set({search: event.target.value}), 60) }
  by('clear').onclick = () => set({class: null, said: null, low: null, high: null, search: '', region: null, open: false})
  by('view').onclick = () => set({view: state.view === 'cards' ? 'classes' : 'cards'})
  by('all').onclick = act.selectAll
  by('lasso').onclick = event => {
    const on = by('canvas').dataset.lasso !== 'yes'
    by('canvas').dataset.lasso = on ? 'yes' : 'no'
    event.currentTarget.setAttribute('aria-pressed', String(on))
  }
  by('undo').onclick = act.undo
  by('redo').onclick = act.redo
  by('download').onclick = () => { download(data); say() }
  by('import').onclick = () => by('file').click()
  by('file').onchange = async event => { const told = await readFiles(data, event.target.files); event.target.value = ''; act.redraw(); say(told) }
  by('reviewer').value = journal.reviewer
  by('reviewer').onchange = event => { journal.reviewer = event.target.value.trim(); save(); say() }
  by('help').onclick = act.help
  by('keys-list').append(...KEYS.map(([key, does]) => element('div', {}, element('dt', {}, element('kbd', {}, key)), element('dd', {}, does))))
  by('theme').onclick = () => { document.documentElement.dataset.theme = isDark() ? 'light' : 'dark'; act.redrawChart() }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', act.redrawChart)
  addEventListener('resize', () => requestAnimationFrame(act.redrawChart))
  addEventListener('beforeunload', event => { if (journal.unsaved && decided.size) event.preventDefault() })
  for (const button of by('thumb').children) button.onclick = () => { view(button.dataset.view); act.redrawChart() }
  by('fields').open = !matchMedia('(max-width: 900px)').matches
  bulk(data, act)
  view('work')
  say(journal.said)
}

const isDark = () => getComputedStyle(document.documentElement).getPropertyValue('--dark').trim() === '1'

/** On a narrow screen one of three parts is shown; the thumb changes it. */
function view(name) {
  if (document.body.dataset.view !== name && document.body.dataset.view) scrollTo({top: name === 'work' ? by('bar').offsetTop : 0})
  document.body.dataset.view = name
  for (const button of by('thumb').children) button.setAttribute('aria-pressed', String(button.dataset.view === name))
}

function bulk(data, act) {
  const some = () => [...state.selected]
  const button = (kind, key) => element('button', {onclick: () => act.decideAndMove(some(), kind), title: `${kind} all selected (${key})`}, kind)
  const labels = classChoice(data, '', label => { if (label) act.decideAndMove(some(), 'relabel', label) }, 'Relabel all as')
  by('bulk').append(element('strong', {id: 'selected'}), button('keep', 'k'), button('drop', 'd'), button('skip', 's'), element('button', {onclick: () => act.suggest(some()), title: 'relabel each as the unseen side says (r)'}, 'relabel as suggested'), labels, element('button', {onclick: act.clear, title: 'Escape'}, 'clear the selection'))
}

/** What the controls say now. */
function bar(data, shown, act) {
  const fields = {class: state.class ?? '', said: state.said ?? '', column: state.column, sort: state.sort, shade: state.shade, low: state.low ?? '', high: state.high ?? '', search: state.search}
  for (const [id, value] of Object.entries(fields)) if (document.activeElement !== by(id)) by(id).value = value
  by('open').checked = state.open
  by('sort').options[0].textContent = `the list: ${typeof OWN[state.list] === 'string' ? COLUMNS[OWN[state.list]][0] : OWN[state.list][0]}`
  for (const button of by('lists').children) {
    const list = button.dataset.list
    button.setAttribute('aria-pressed', String(list === state.list && state.only === null))
    button.querySelector('span').textContent = sizeOf(data, list)
    if (list === 'disagreements') button.hidden = !held(data, decision => decision.other).length && state.list !== list
  }
  by('count').textContent = `${grouped(shown.length)} of ${grouped(state.only === null ? members(data).length : data.ids.length)}`
  by('all').textContent = `Select all ${grouped(shown.length)}`
  by('all').disabled = !shown.length
  by('view').textContent = state.view === 'cards' ? 'By class' : 'As cards'
  by('bulk').hidden = !state.selected.size
  by('selected').textContent = `${grouped(state.selected.size)} selected:`
  by('undo').disabled = !journal.done.length
  by('redo').disabled = !journal.undone.length
  by('download').disabled = !decided.size
  by('download').textContent = decided.size ? `Download ${grouped(decided.size)}` : 'Download'
  by('about-list').textContent = [ABOUT[state.list], data.qualities[state.list]].filter(Boolean).join(' ')
  by('progress').textContent = progressOf(data, members(data))
  chips(data, act)
  say()
}

function sizeOf(data, list) {
  if (list === 'decided') return grouped(decided.size)
  if (list === 'disagreements') return grouped(held(data, decision => decision.other).length)
  const listed = data['list_' + list]
  if (!listed) return ''
  return listed.length === data.sizes[list] ? grouped(listed.length) : `${grouped(listed.length)} of ${grouped(data.sizes[list])}`
}

/** What narrows the view, each with a button that takes it away. */
function chips(data, act) {
  const chip = (text, changes) => element('button', {className: 'chip', onclick: () => act.set(changes), title: 'Take this filter away'}, `${text} ✕`)
  const found = []
  if (state.only !== null) found.push(chip('one example', {only: null}))
  if (state.region) found.push(chip(`lasso in ${SCATTERS[state.region.chart].name}`, {region: null}))
  if (state.class !== null && state.said !== null) {
    found.push(chip(`labelled ${named(data, state.class)}, unseen says ${named(data, state.said)}`, {class: null, said: null}))
    if (state.class !== state.said) found.push(element('button', {className: 'chip', onclick: () => act.set({class: state.said, said: state.class})}, `the reverse: ${named(data, state.said)} → ${named(data, state.class)}`))
  } else if (state.class !== null) found.push(chip(`labelled ${named(data, state.class)}`, {class: null}))
  else if (state.said !== null) found.push(chip(`unseen says ${named(data, state.said)}`, {said: null}))
  if (state.low !== null || state.high !== null) found.push(chip(`${COLUMNS[state.column][0]} ${state.low ?? '…'} to ${state.high ?? '…'}`, {low: null, high: null}))
  if (state.search) found.push(chip(`“${state.search}”`, {search: ''}))
  by('chips').replaceChildren(...found)
}

/** A message to the person; a storage that is full or closed stays said until it is not. */
function say(text) {
  if (text !== undefined) journal.said = text
  const full = journal.failed ? `This browser's storage is full or closed: ${grouped(decided.size)} decisions are only in this page. Download them before you close it.` : ''
  by('message').textContent = [full, journal.said].filter(Boolean).join(' ')
  by('message').hidden = !by('message').textContent
}

start().catch(error => by('work').prepend(element('p', {className: 'notice', role: 'alert'}, `This browser cannot show the examples (${error.message}). A current Firefox, Chrome or Safari can.`)))
