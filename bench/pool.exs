# The yardstick of bench/pool.py: the same pool as a GenServer with monitors. Prints pairs per second
# with 1 and with 100 clients.
defmodule Pool do
  use GenServer

  def checkout(pool), do: GenServer.call(pool, :checkout, :infinity)
  def checkin(pool, worker), do: GenServer.cast(pool, {:checkin, worker})

  def init(workers), do: {:ok, %{idle: workers, lent: %{}, waiting: :queue.new()}}

  def handle_call(:checkout, {client, _}, %{idle: [worker | idle]} = state),
    do: {:reply, worker, lend(%{state | idle: idle}, worker, client)}

  def handle_call(:checkout, from, state),
    do: {:noreply, %{state | waiting: :queue.in(from, state.waiting)}}

  def handle_cast({:checkin, worker}, state) do
    {ref, lent} = Map.pop(state.lent, worker)
    if ref, do: Process.demonitor(ref, [:flush])
    give(%{state | lent: lent}, worker)
  end

  def handle_info({:DOWN, ref, _, _, _}, state) do
    case Enum.find(state.lent, fn {_, r} -> r == ref end) do
      {worker, _} -> give(%{state | lent: Map.delete(state.lent, worker)}, worker)
      nil -> {:noreply, state}
    end
  end

  defp give(state, worker) do
    case :queue.out(state.waiting) do
      {{:value, {client, _} = from}, waiting} ->
        GenServer.reply(from, worker)
        {:noreply, lend(%{state | waiting: waiting}, worker, client)}

      {:empty, _} ->
        {:noreply, %{state | idle: [worker | state.idle]}}
    end
  end

  defp lend(state, worker, client),
    do: %{state | lent: Map.put(state.lent, worker, Process.monitor(client))}
end

pairs = 200_000

for clients <- [1, 100] do
  workers = for _ <- 1..100, do: spawn(fn -> Process.sleep(:infinity) end)
  {:ok, pool} = GenServer.start_link(Pool, workers)

  client = fn ->
    for _ <- 1..div(pairs, clients), do: Pool.checkin(pool, Pool.checkout(pool))
  end

  {micros, _} =
    :timer.tc(fn ->
      1..clients |> Enum.map(fn _ -> Task.async(client) end) |> Enum.each(&Task.await(&1, :infinity))
    end)

  IO.puts(round(pairs / micros * 1_000_000))
end
