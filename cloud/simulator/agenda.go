package simulator

import (
	"container/heap"
	"time"
)

// agenda holds what will happen, earliest first; equal times keep the order they were added in.
type agenda struct {
	items agendaHeap
	added uint64
}

type agendaItem struct {
	at    time.Time
	order uint64
	do    func()
}

func (a *agenda) add(at time.Time, do func()) {
	a.added++
	heap.Push(&a.items, agendaItem{at: at, order: a.added, do: do})
}

// next takes the first item that is due.
func (a *agenda) next(now time.Time) (agendaItem, bool) {
	if len(a.items) == 0 || a.items[0].at.After(now) {
		return agendaItem{}, false
	}
	return heap.Pop(&a.items).(agendaItem), true
}

func (a *agenda) first() (time.Time, bool) {
	if len(a.items) == 0 {
		return time.Time{}, false
	}
	return a.items[0].at, true
}

type agendaHeap []agendaItem

func (h agendaHeap) Len() int { return len(h) }
func (h agendaHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].order < h[j].order
	}
	return h[i].at.Before(h[j].at)
}
func (h agendaHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *agendaHeap) Push(x any)   { *h = append(*h, x.(agendaItem)) }
func (h *agendaHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
