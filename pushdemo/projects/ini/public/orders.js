// The server sends each value as soon as it is there, to all pages in the same moment.
const stream = new EventSource('server/index/orders');

stream.onmessage = ({ data }) => {
  const { orders, at } = JSON.parse(data);
  document.getElementById('orders').textContent = orders;
  document.getElementById('at').textContent = at;
};

const say = (words) => (document.getElementById('state').textContent = words);
stream.onopen = () => say('Live');
stream.onerror = (event) => {
  if (!event.data) say('The server went away. Reconnecting');
};
